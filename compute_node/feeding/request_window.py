"""What to ask of one site and what is still due from it, as pure state: no socket, no clock, no thread.

A window outlives its streams. When a stream breaks, whatever was asked and not answered is asked again on the next one.
Callers serialise access.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from mple.metrics import TALLIES, Outputs, Tally, require_tallies
from mple.plan import RunPlan
from mple.v1 import common_pb2
from mple.wire.batch import samples_per_message
from mple.wire.codecs import codec_named

_MOST_IN_FLIGHT_BYTES = 32 * 1024 * 1024


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
    last: bool
    """Whether all of the site's samples of the split are with it: its answer has the tallies."""


class Done(Enum):
    """The run needs nothing more from the site."""

    DONE = "done"


class RequestWindow:
    """Requests, logits and their answers for one site.

    Guarantees: a sample is asked again only after its stream broke before the answer came; never more than
    `most_in_flight` samples are asked and unanswered; an answer that was not asked for raises `FeedFault` and changes
    nothing. A split is scored as a whole: when the stream breaks before all of it is, all of it is sent anew.
    """

    def __init__(
        self, *, per_request: int, most_in_flight: int, outputs: Outputs, tallies: Collection[str] = tuple(TALLIES)
    ) -> None:
        """Ask nothing yet; `tallies` are those that the plan names."""
        if per_request < 1 or most_in_flight < per_request:
            raise ValueError(f"per_request = {per_request}, most_in_flight = {most_in_flight}; 1 <= first <= second")
        self._per_request = per_request
        self._most_in_flight = most_in_flight
        self._outputs, self._due_tallies = outputs, tallies
        self._wanted: deque[tuple[common_pb2.Split, int]] = deque()
        self._asked: dict[int, Asked] = {}
        self._in_flight = 0
        self._to_send: deque[ToScore] = deque()
        self._unscored: dict[int, ToScore] = {}
        self._scoring: tuple[ToScore, ...] = ()
        self._scored: tuple[common_pb2.Split, int] | None = None
        self._tallies: dict[str, Tally] = {}
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
        """Have a whole split scored, in groups; `epoch` is counted from 1. What was to be scored before is due no more,
        and its tallies are gone."""
        self._withdrawn |= set(self._unscored)
        self._unscored.clear()
        groups = list(samples)
        self._scoring = tuple(
            ToScore(self._take_id(), split, epoch, group, last=place == len(groups))
            for place, group in enumerate(groups, start=1)
        )
        self._to_send = deque(self._scoring)
        self._scored, self._tallies = (split, epoch), {}

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
        self,
        request_id: int,
        *,
        split: common_pb2.Split,
        epoch: int,
        samples: int,
        tallies: Mapping[str, Tally],
        withheld: Collection[str] = (),
    ) -> None:
        """Take in a site's answer to one group: to the last one the tallies, by name, and which are withheld.

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
            self._require_tallies(item, tallies, withheld)
        except ValueError as fault:
            raise FeedFault(f"score of request {request_id}: {fault}") from None
        del self._unscored[request_id]
        if item.last:
            self._tallies = dict(tallies)

    def _require_tallies(self, item: ToScore, tallies: Mapping[str, Tally], withheld: Collection[str]) -> None:
        due = [name for name in self._due_tallies if TALLIES[name].shape(self._outputs)] if item.last else []
        told = sorted([*tallies, *withheld])
        if told != sorted(due):
            raise ValueError(
                f"tallies told and withheld are {', '.join(told)[:200] or 'none'}; due are {', '.join(due) or 'none'}"
            )
        whole = sum(len(group.samples) for group in self._scoring)
        require_tallies(tallies, samples=whole, outputs=self._outputs)

    def tallies_of(self, split: common_pb2.Split, epoch: int) -> dict[str, Tally] | None:
        """The site's tallies of a split after an epoch, by name, or None while a group of it is unscored, or
        another one is being scored."""
        return None if self._unscored or self._to_send or self._scored != (split, epoch) else self._tallies

    def stream_broke(self) -> None:
        """Put everything unanswered back to the front, in its order."""
        for asked in sorted(self._asked.values(), key=lambda item: item.request_id, reverse=True):
            self._wanted.extendleft((asked.split, sample) for sample in reversed(asked.samples))
        self._asked.clear()
        self._in_flight = 0
        if self._unscored or self._to_send:
            self._to_send = deque(self._scoring)
            self._unscored.clear()
            self._tallies = {}
        self._done_sent = False

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1


def windows_of(plan: RunPlan, in_flight_samples: int) -> dict[str, RequestWindow]:
    """A window for each site of a plan; `in_flight_samples` is how many samples one may be asked for at a time."""
    codec, geometry = codec_named(plan.wire.codec), plan.geometry
    sample_bytes = codec.sample_bytes(blocks=geometry.blocks, values=geometry.morphed_elements)
    planned = samples_per_message(plan.wire.message_bytes, codec.planned_bytes(geometry))
    per_request = min(planned, max(1, in_flight_samples))
    most = max(per_request, min(in_flight_samples, _MOST_IN_FLIGHT_BYTES // sample_bytes))
    return {
        site.name: RequestWindow(
            per_request=per_request, most_in_flight=most, outputs=plan.outputs, tallies=plan.metrics.tallies
        )
        for site in plan.sites
    }
