"""What to ask of one site and what is still due from it, as pure state: no socket, no clock, no thread.

A window outlives its streams. When a stream breaks, whatever was asked and not answered is asked again on the next one.
Callers serialise access.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from mple.metrics import Outputs, Tally, merged, require_tallies
from mple.v1 import common_pb2


class FeedFault(ValueError):
    """The site answered what was not asked, or otherwise than asked."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for samples: their numbers within the site's split."""

    request_id: int
    split: common_pb2.Split
    samples: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ToScore:
    """Validation or test samples whose logits the site shall score."""

    request_id: int
    split: common_pb2.Split
    epoch: int
    samples: tuple[int, ...]


class Done(Enum):
    """The run needs nothing more from the site."""

    DONE = "done"


class RequestWindow:
    """Requests, logits and their answers for one site.

    Guarantees: a sample is asked again only after its stream broke before the answer came; never more than
    `most_in_flight` samples are asked and unanswered; an answer that was not asked for raises `FeedFault` and changes
    nothing.
    """

    def __init__(self, *, per_request: int, most_in_flight: int, outputs: Outputs) -> None:
        if per_request < 1 or most_in_flight < per_request:
            raise ValueError(f"per_request = {per_request}, most_in_flight = {most_in_flight}; 1 <= first <= second")
        self._per_request = per_request
        self._most_in_flight = most_in_flight
        self._outputs = outputs
        self._wanted: deque[tuple[common_pb2.Split, int]] = deque()
        self._asked: dict[int, Asked] = {}
        self._in_flight = 0
        self._to_send: deque[ToScore] = deque()
        self._unscored: dict[int, ToScore] = {}
        self._tallies: dict[tuple[common_pb2.Split, int], dict[str, Tally]] = {}
        self._withdrawn: set[int] = set()
        self._closing = False
        self._done_sent = False
        self._next_id = 1

    @property
    def idle(self) -> bool:
        """Nothing is wanted, asked or to be scored."""
        return not (self._wanted or self._asked or self._to_send or self._unscored)

    def want(self, split: common_pb2.Split, samples: Iterable[int]) -> None:
        """Ask for samples, in this order, after all that is already wanted."""
        self._wanted.extend((split, int(sample)) for sample in samples)

    def score(self, split: common_pb2.Split, epoch: int, samples: Iterable[tuple[int, ...]]) -> None:
        """Have groups of a split's samples scored; `epoch` is counted from 1. What was to be scored before is due no
        more."""
        self._withdrawn |= set(self._unscored)
        self._to_send.clear()
        self._unscored.clear()
        self._tallies[split, epoch] = {}
        for group in samples:
            self._to_send.append(ToScore(self._take_id(), split, epoch, group))

    def close(self) -> None:
        """Tell the site that it is done once nothing is due any more."""
        self._closing = True

    def next_message(self) -> Asked | ToScore | Done | None:
        """What to send now, or None while the window is full or nothing is due."""
        if self._to_send:
            item = self._to_send.popleft()
            self._unscored[item.request_id] = item
            return item
        if self._wanted and self._in_flight + self._per_request <= self._most_in_flight:
            split = self._wanted[0][0]
            samples: list[int] = []
            while self._wanted and len(samples) < self._per_request and self._wanted[0][0] == split:
                samples.append(self._wanted.popleft()[1])
            asked = Asked(self._take_id(), split, tuple(samples))
            self._asked[asked.request_id] = asked
            self._in_flight += len(samples)
            return asked
        if self._closing and self.idle and not self._done_sent:
            self._done_sent = True
            return Done.DONE
        return None

    def asked(self, request_id: int) -> Asked:
        """The open request that a batch answers. Raises FeedFault: there is no such open request."""
        try:
            return self._asked[request_id]
        except KeyError:
            raise FeedFault(f"request {request_id} was never made or is already answered") from None

    def answered(self, request_id: int) -> None:
        """Close a request whose batch is safely kept."""
        self._in_flight -= len(self.asked(request_id).samples)
        del self._asked[request_id]

    def scored(
        self, request_id: int, *, split: common_pb2.Split, epoch: int, samples: int, tallies: Mapping[str, Tally]
    ) -> None:
        """Take in a site's tallies of one group, by name.

        Raises FeedFault: no such group is open, or the tallies can't be.
        """
        item = self._unscored.get(request_id)
        if item is None:
            if request_id in self._withdrawn:  # in time for the site, too late for the run
                self._withdrawn.remove(request_id)
                return
            raise FeedFault(f"score for request {request_id}, which was never made or is already scored")
        if (split, epoch, samples) != (item.split, item.epoch, len(item.samples)):
            raise FeedFault(
                f"score of request {request_id}: {samples} samples of split {split} and epoch {epoch}; "
                f"{len(item.samples)} of split {item.split} and epoch {item.epoch} were sent"
            )
        try:
            require_tallies(tallies, samples=samples, outputs=self._outputs)
        except ValueError as fault:
            raise FeedFault(f"score of request {request_id}: {fault}") from None
        del self._unscored[request_id]
        self._tallies[split, epoch] = merged((self._tallies[split, epoch], tallies))

    def tallies_of(self, split: common_pb2.Split, epoch: int) -> dict[str, Tally] | None:
        """The site's tallies of a split after an epoch, by name, or None while a group of it is unscored."""
        due = any((item.split, item.epoch) == (split, epoch) for item in [*self._unscored.values(), *self._to_send])
        return None if due else self._tallies.get((split, epoch))

    def stream_broke(self) -> None:
        """Put everything unanswered back to the front, in its order."""
        for asked in sorted(self._asked.values(), key=lambda item: item.request_id, reverse=True):
            self._wanted.extendleft((asked.split, sample) for sample in reversed(asked.samples))
        self._asked.clear()
        self._in_flight = 0
        for item in sorted(self._unscored.values(), key=lambda item: item.request_id, reverse=True):
            self._to_send.appendleft(item)
        self._unscored.clear()
        self._done_sent = False

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1
