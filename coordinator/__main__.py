"""`python -m coordinator`."""

import sys

from coordinator.node import main

if __name__ == "__main__":
    sys.exit(main())
