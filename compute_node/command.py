"""The command `mple-compute`. Its help and its refusals need no torch, which takes a second to load."""

import os
import sys
from collections.abc import Sequence

from mple.extras import require_extra
from mple.node import run_node
from mple.node.stop import Stop
from mple.plan import ComputeSettings


def main(argv: Sequence[str] | None = None) -> int:
    """The command `mple-compute`. The process of a rank ends within it."""
    code = run_node("mple-compute", "serve", ComputeSettings, _serve, argv)
    if os.environ.get("WORLD_SIZE", "1") != "1":
        # What torch has begun with other ranks holds the interpreter's end until they end, who may wait for this one.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _serve(settings: ComputeSettings, stop: Stop) -> None:
    require_extra("mple-compute", "compute", "torch", "tensorboardX")
    from compute_node.node import serve

    serve(settings, stop)
