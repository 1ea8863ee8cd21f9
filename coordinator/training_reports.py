"""Checks of what the compute node tells of its training. Pure."""

import math

from mple.metrics import require_scores, require_tallies
from mple.metrics.messages import from_messages
from mple.plan import RunPlan
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


def check_network(scored: coordinator_pb2.NetworkScored, plan: RunPlan) -> None:
    """Refuse scores and tallies that can't be those of a plan's network. Raises MpleError: MESSAGE_MALFORMED."""
    epochs, sites = plan.training.epochs, plan.sites
    if not 1 <= scored.epoch <= epochs:
        raise MpleError(ErrorCode.MESSAGE_MALFORMED, f"a network of epoch {scored.epoch} of {epochs}")
    try:
        require_scores(scored.scores)
        for told, samples in (
            (scored.val_tallies, sum(site.val_images for site in sites)),
            (scored.test_tallies, sum(site.test_images for site in sites)),
        ):
            sums = from_messages(told)
            require_tallies(sums, samples=samples, outputs=plan.outputs, due=plan.metrics.tallies, some=True)
    except ValueError as fault:
        raise MpleError(ErrorCode.MESSAGE_MALFORMED, f"a network with {fault}") from None
