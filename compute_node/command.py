"""The command `mple-compute`. Its help and its refusals need no torch, which takes a second to load."""

from collections.abc import Sequence

from mple.extras import require_extra
from mple.node import run_node
from mple.node.stop import Stop
from mple.plan import ComputeSettings


def main(argv: Sequence[str] | None = None) -> int:
    """The command `mple-compute`."""
    return run_node("mple-compute", "serve", ComputeSettings, _serve, argv)


def _serve(settings: ComputeSettings, stop: Stop) -> None:
    require_extra("mple-compute", "compute", "torch", "tensorboardX")
    from compute_node.node import serve

    serve(settings, stop)
