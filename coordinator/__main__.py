"""`python -m coordinator` is `mple-coordinator`."""

import sys

from coordinator.node import main

sys.exit(main())
