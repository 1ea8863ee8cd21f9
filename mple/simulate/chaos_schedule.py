"""Which faults strike a run, and when: a seeded schedule, pure. `mple.simulate.chaos` carries it out.

A fault is tied to how far the run is, not to the clock: equal seeds strike equal moments on slow and fast machines.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Annotated

from mple.ranges import Between, check_ranges
from mple.records.run_folder import COMPUTE, COORDINATOR
from mple.simulate.progress import Progress


class Stage(StrEnum):
    """Parts of a run in their order."""

    GATHERING = "gathering"
    """Parties join; the share done is that of the parties."""
    SETUP = "setup"
    """Keys, secrets, layers; the share is that of released layers."""
    FEEDING = "feeding"
    """Training has begun and samples are still to come; the share is that of samples sent."""
    TRAINING = "training"
    """All samples are here; the share is that of steps done."""
    END = "end"
    """The last step is done (0), its epoch is scored (0.5), the coordinator calls the run finished (1)."""


class FaultKind(StrEnum):
    """What is done to a node or a link."""

    KILL = "kill"
    """SIGKILL; started again with the same command after a short while. A rank of the compute node is started again by
    its launcher, with all others."""
    STOP = "stop"
    """SIGSTOP, and SIGCONT some seconds later: the node is silent but keeps its connections."""
    CUT = "cut"
    """All connections to a node's port are cut, and new ones refused for some seconds."""
    STARVE = "starve"
    """The node may open no further file or connection for some seconds."""
    UNNAME = "unname"
    """The name of a node can't be looked up for some seconds; its connections are cut, so that it has to be."""


_ORDER = tuple(Stage)
_FIRST_STAGES = (Stage.TRAINING, Stage.FEEDING, Stage.SETUP, Stage.END, Stage.GATHERING)
"""Where the first five faults strike, so that few faults strike where most can be lost and five strike everywhere."""
_FIRST_SHARE = {Stage.SETUP: 0.0, Stage.FEEDING: 0.0, Stage.END: 0.0}
"""The first fault of a short stage strikes at once, or the stage might be over."""
_WEIGHTS = {Stage.GATHERING: 1, Stage.SETUP: 2, Stage.FEEDING: 4, Stage.TRAINING: 12, Stage.END: 1}
_AT_ONCE = (1, 1, 1, 1, 1, 1, 2, 2, 3, 5)
_MOST_GATHERED = 0.8
"""Share of parties that a fault while gathering waits for at most; with all of them the stage is over."""


@dataclass(frozen=True, slots=True)
class Moment:
    """How far a run is."""

    stage: Stage
    share: float
    """Of the stage, 0 to 1."""

    def reached(self, now: Moment) -> bool:
        """Whether a run that is at `now` has come to this moment."""
        return now.place >= self.place

    @property
    def place(self) -> tuple[int, float]:
        """For comparing moments."""
        return _ORDER.index(self.stage), self.share


@dataclass(frozen=True, kw_only=True, slots=True)
class ChaosSettings:
    """How much disturbance a run gets."""

    seed: Annotated[int, Between(0)]
    kills: Annotated[int, Between(0)] = 6
    """Nodes and ranks killed; five at least if each stage is to be hit, and as many as there are if each of them is."""
    stops: Annotated[int, Between(0)] = 1
    cuts: Annotated[int, Between(0)] = 2
    starves: Annotated[int, Between(0)] = 0
    unnames: Annotated[int, Between(0)] = 0

    def __post_init__(self) -> None:
        check_ranges(self)
        if not any(self.asked.values()):
            raise ValueError("kills = 0, stops = 0, cuts = 0, and none of the rest; there must be one fault at least")

    @property
    def asked(self) -> dict[FaultKind, int]:
        """How many nodes are hit by each kind."""
        numbers = (self.kills, self.stops, self.cuts, self.starves, self.unnames)
        return dict(zip(FaultKind, numbers, strict=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One entry of a schedule."""

    kind: FaultKind
    nodes: tuple[str, ...]
    """Nodes that are killed or stopped together, or the one that starves, or whose port or name it is."""
    moment: Moment
    seconds: float
    """Until a killed node is started again, a stopped one goes on, or a link, a node or a name is as before."""


def draw_faults(
    chaos: ChaosSettings, sites: Sequence[str], *, releases: int, ranks: Sequence[str] = ()
) -> tuple[Fault, ...]:
    """The schedule of a seed, in the order of moments. `ranks` are those of the compute node, where it has several;
    they are killed one by one, held and starved only with the whole node.

    Guarantees: kills take turns, so that among any as many kills as there are nodes and ranks each is hit; as soon as
    there are as many faults as stages, each stage is hit. At most `releases` - 1 faults strike while samples are fed: a
    sample on its way is then never sent more often than the plan's `wire.releases` allows.
    """
    rng = random.Random(chaos.seed)  # noqa: S311
    nodes = (COORDINATOR, COMPUTE, *sites)
    struck: list[tuple[FaultKind, tuple[str, ...], float]] = []
    struck += [(FaultKind.KILL, group, rng.uniform(0.1, 1.5)) for group in _groups(rng, (*nodes, *ranks), chaos.kills)]
    struck += [(FaultKind.STOP, (name,), rng.uniform(1.0, 4.0)) for name in islice(_turns(rng, nodes), chaos.stops)]
    relayed = _turns(rng, (COORDINATOR, COMPUTE))
    struck += [(FaultKind.CUT, (name,), rng.uniform(0.2, 3.0)) for name in islice(relayed, chaos.cuts)]
    starved = islice(_turns(rng, nodes), chaos.starves)
    struck += [(FaultKind.STARVE, (name,), rng.uniform(1.0, 5.0)) for name in starved]
    unnamed = islice(_turns(rng, (COORDINATOR, COMPUTE)), chaos.unnames)
    struck += [(FaultKind.UNNAME, (name,), rng.uniform(1.0, 5.0)) for name in unnamed]
    faults = [
        _fault(kind, names, moment, seconds)
        for (kind, names, seconds), moment in zip(struck, _moments(rng, len(struck), releases), strict=True)
    ]
    return tuple(sorted(faults, key=lambda fault: fault.moment.place))


def position(progress: Progress, parties: int) -> Moment:
    """How far a run of so many parties, the coordinator not counted, is by what its nodes have written. A node that
    resumes makes it smaller again."""
    training, sites = progress.training, progress.sites.values()
    if progress.phase == "finished":
        return Moment(Stage.END, 1.0)
    if progress.phase == "setup":
        return Moment(Stage.SETUP, len(progress.released) / max(1, len(sites)))
    if progress.phase != "training":
        return Moment(Stage.GATHERING, len(progress.joined) / parties)
    if training.epochs_scored and training.epochs_scored == training.epochs:
        return Moment(Stage.END, 0.5)
    if training.share_done == 1.0:
        return Moment(Stage.END, 0.0)
    sent, images = sum(site.samples_sent for site in sites), sum(site.images for site in sites)
    if sent < images:
        return Moment(Stage.FEEDING, sent / images)
    return Moment(Stage.TRAINING, training.share_done)


def _fault(kind: FaultKind, nodes: tuple[str, ...], moment: Moment, seconds: float) -> Fault:
    linked = kind in (FaultKind.CUT, FaultKind.UNNAME)
    if linked and moment.stage in (Stage.GATHERING, Stage.SETUP):
        nodes = (COORDINATOR,)  # nobody dials the compute node yet
    if moment.stage is Stage.END and (linked or len(nodes) > 1):
        moment = Moment(Stage.END, 0.0)  # later one of the nodes might have ended
    return Fault(kind=kind, nodes=nodes, moment=moment, seconds=round(seconds, 2))


def _turns(rng: random.Random, names: Sequence[str]) -> Iterator[str]:
    """Names without end, each once in every round, in a new order each time."""
    while True:
        yield from rng.sample(names, len(names))


def _groups(rng: random.Random, nodes: Sequence[str], kills: int) -> Iterator[tuple[str, ...]]:
    """Nodes to be killed together; alone while there are few, so that they hit every stage."""
    left = kills
    while left:
        turn = rng.sample(nodes, len(nodes))[:left]
        left -= len(turn)
        while turn:
            size = 1 if kills < 2 * len(nodes) else rng.choice(_AT_ONCE)
            yield tuple(turn[:size])
            turn = turn[size:]


def _moments(rng: random.Random, count: int, releases: int) -> Iterator[Moment]:
    seen: dict[Stage, int] = dict.fromkeys(Stage, 0)
    for place in range(count):
        most_feeding = seen[Stage.FEEDING] >= max(1, releases - 1)
        weights = [0 if stage is Stage.FEEDING and most_feeding else _WEIGHTS[stage] for stage in _ORDER]
        stage = _FIRST_STAGES[place] if place < len(_FIRST_STAGES) else rng.choices(_ORDER, weights)[0]
        share = rng.random()
        if stage is Stage.GATHERING:
            share = 0.2 + share * (_MOST_GATHERED - 0.2)
        elif stage is Stage.END:
            share = rng.choice((0.0, 0.5, 1.0))
        if not seen[stage]:
            share = _FIRST_SHARE.get(stage, share)
        seen[stage] += 1
        yield Moment(stage, share)
