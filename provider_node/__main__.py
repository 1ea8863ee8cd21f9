"""`python -m provider_node` is `mple-provider`."""

import sys

from provider_node.node import main

sys.exit(main())
