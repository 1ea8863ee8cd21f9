"""Tallies as they travel: of a histogram's counts, most of which are 0, those above it and the gaps between them."""

from collections.abc import Mapping

import numpy as np

from mple.metrics.outputs import MOST_CELLS
from mple.metrics.tallies import TALLIES, Tally
from mple.printable import printable
from mple.v1 import common_pb2


def to_messages(tallies: Mapping[str, Tally]) -> dict[str, common_pb2.Tally]:
    """Of each tally a message, by its name."""
    return {name: _to_message(tally) for name, tally in tallies.items()}


def from_messages(messages: Mapping[str, common_pb2.Tally]) -> dict[str, Tally]:
    """The tallies that messages of another party hold, by name; what they may be is `require_tallies`' to say.

    Guarantees: nothing is allocated for a name that no tally has, nor by a length.

    Raises ValueError: there is no such tally; gaps and counts do not fit each other or the length, or that is beyond
    any tally's.
    """
    for name in messages:
        if name not in TALLIES:
            raise ValueError(f"there is no tally of {printable(repr(name), 50)}; known are {', '.join(TALLIES)}")
    return {name: _from_message(name, message) for name, message in messages.items()}


def _to_message(tally: Tally) -> common_pb2.Tally:
    counts = np.array(tally.counts, np.uint64)
    places = np.flatnonzero(counts)
    gaps = np.diff(places, prepend=-1) - 1
    return common_pb2.Tally(
        counts=counts[places].tolist(), sums=tally.sums, gaps=gaps.tolist(), length=len(tally.counts)
    )


def _from_message(name: str, message: common_pb2.Tally) -> Tally:
    if len(message.gaps) != len(message.counts) or message.length > MOST_CELLS or 0 in message.counts:
        raise ValueError(
            f"the tally of {name[:50]!r} has {len(message.counts)} counts above 0, {len(message.gaps)} gaps and says "
            f"that it is {message.length} long"
        )
    counts = [0] * message.length
    place = -1
    for gap, count in zip(message.gaps, message.counts, strict=True):
        place += gap + 1
        if place >= message.length:
            raise ValueError(f"the tally of {name[:50]!r} has a count at place {place} of {message.length}")
        counts[place] = count
    return Tally(tuple(counts), tuple(message.sums))
