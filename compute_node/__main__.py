"""`python -m compute_node` is `mple-compute`."""

import sys

from compute_node.command import main

sys.exit(main())
