"""Checks of what the compute node tells of its training. Pure."""

import math

from mple.metrics import require_scores
from mple.rpc import ErrorCode, MpleError
from mple.v1 import coordinator_pb2


def check_epoch(done: coordinator_pb2.EpochDone, epochs: int) -> None:
    """Refuse figures that can't be those of one of so many epochs. Raises MpleError: MESSAGE_MALFORMED."""
    figures = (done.loss, done.seconds)
    if not 1 <= done.epoch <= epochs or not all(0 <= figure < math.inf for figure in figures):
        raise MpleError(ErrorCode.MESSAGE_MALFORMED, f"epoch {done.epoch} of {epochs} with figures {figures}")
    try:
        require_scores(done.scores)
    except ValueError as fault:
        raise MpleError(ErrorCode.MESSAGE_MALFORMED, f"epoch {done.epoch} of {epochs} with {fault}") from None


def check_network(scored: coordinator_pb2.NetworkScored, epochs: int) -> None:
    """Refuse scores that can't be those of a network of one of so many epochs. Raises MpleError: MESSAGE_MALFORMED."""
    if not 1 <= scored.epoch <= epochs:
        raise MpleError(ErrorCode.MESSAGE_MALFORMED, f"a network of epoch {scored.epoch} of {epochs}")
    try:
        require_scores(scored.scores)
    except ValueError as fault:
        raise MpleError(ErrorCode.MESSAGE_MALFORMED, f"a network with {fault}") from None
