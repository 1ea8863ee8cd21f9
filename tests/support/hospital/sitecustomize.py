"""Python imports this by itself where its folder is on `PYTHONPATH`, as it is for all processes that tests start.

What a hospital does not install can't be imported in a site's or a coordinator's process then.
"""

import sys
from pathlib import PurePath

NOT_INSTALLED = (
    "torch",
    "tensorboardX",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "pyarrow",
    "scipy",
    "seal",
    "sklearn",
    "tensorboard",
)
_NODES = {"mple-coordinator", "mple-provider", "coordinator", "provider_node"}
"""The last two as in `python -m coordinator`."""

if _NODES & {PurePath(word).name for word in sys.orig_argv[1:3]}:
    sys.modules.update(dict.fromkeys(NOT_INSTALLED))  # type: ignore[arg-type]  # Python's own sign for "not there"
