"""Scores of test samples with numbers of one's choice."""

from __future__ import annotations

from mple.metrics import TALLIES, Tally
from mple.metrics.messages import to_messages
from mple.v1 import common_pb2, compute_pb2

WITHHELD = tuple(name for name in TALLIES if name not in ("counts", "loss"))
"""What goes with the tallies of `tallies_of`."""


def tallies_of(samples: int, right: int = 0, loss_sum: float = 1.0) -> dict[str, Tally]:
    """Tallies of so many samples: as of a site that withholds the others."""
    return {"counts": Tally((samples, right)), "loss": Tally((samples,), (loss_sum,))}


def sent(counts: list[int], sums: list[float] | None = None) -> common_pb2.Tally:
    """A tally of such numbers as a message, whether or not there can be one."""
    return to_messages({"": Tally(tuple(counts), tuple(sums or ()))})[""]


def score_of(
    request_id: int,
    *,
    split: common_pb2.Split = common_pb2.SPLIT_TEST,
    epoch: int = 1,
    samples: int,
    right: int = 0,
    loss_sum: float = 1.0,
    last: bool = True,
) -> compute_pb2.Score:
    """A site's message with these tallies; to a group that is not the last one there are none."""
    answer = compute_pb2.Score(request_id=request_id, split=split, epoch=epoch, samples=samples)
    if not last:
        return answer
    tallies = to_messages(tallies_of(samples, right, loss_sum))
    answer.MergeFrom(compute_pb2.Score(tallies=tallies, withheld=WITHHELD))
    return answer
