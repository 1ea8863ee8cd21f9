"""`python -m compute_node` is `mple-compute`."""

import sys

from compute_node.node import main

sys.exit(main())
