"""The fuzzer's modules, and the coordinator's small run that they drive."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "coordinator")]
