"""The phases of a run as a pure state machine: states and events in, states out. No clock, socket or thread.

GATHERING -> SETUP -> TRAINING -> FINISHED, or FAILED from any of the first three. An event that a restarted party
repeats changes nothing; one that comes too early or too late raises `PhaseError`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Phase(StrEnum):
    """Where a run is."""

    GATHERING = "gathering"
    SETUP = "setup"
    TRAINING = "training"
    FINISHED = "finished"
    FAILED = "failed"


class PhaseError(ValueError):
    """An event does not belong to the phase."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A party has joined, for the first time or again."""

    party: str


@dataclass(frozen=True, slots=True)
class LayerReleased:
    """A site's layer has passed review."""

    site: str


@dataclass(frozen=True, slots=True)
class LayersStored:
    """The compute node holds all layers."""


@dataclass(frozen=True, slots=True)
class TrainingDone:
    """The compute node has trained to the end."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A party can't go on."""

    reason: str


Event = Joined | LayerReleased | LayersStored | TrainingDone | Failed


@dataclass(frozen=True, kw_only=True, slots=True)
class RunState:
    """All that decides what comes next."""

    expected: frozenset[str]
    """Labels of all parties: "site/north", "compute/compute"."""
    sites: frozenset[str]
    """Names of the sites."""
    phase: Phase = Phase.GATHERING
    joined: frozenset[str] = frozenset()
    released: frozenset[str] = frozenset()
    reason: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing can follow."""
        return self.phase in (Phase.FINISHED, Phase.FAILED)


def advance(state: RunState, event: Event) -> RunState:
    """The state after an event.

    Raises:
        PhaseError: The event does not belong here.
    """
    match event:
        case Joined(party):
            return _joined(state, party)
        case LayerReleased(site):
            return _released(state, site)
        case LayersStored():
            if state.phase is Phase.SETUP and state.released == state.sites:
                return replace(state, phase=Phase.TRAINING)
            return _repeated(state, state.phase in (Phase.TRAINING, Phase.FINISHED), "layers are stored")
        case TrainingDone():
            if state.phase is Phase.TRAINING:
                return replace(state, phase=Phase.FINISHED)
            return _repeated(state, state.phase is Phase.FINISHED, "training is done")
        case Failed(reason):
            return state if state.ended else replace(state, phase=Phase.FAILED, reason=reason)


def _joined(state: RunState, party: str) -> RunState:
    if party not in state.expected:
        raise PhaseError(f"{party} is not expected in this run")
    if state.phase is not Phase.GATHERING:
        return _repeated(state, party in state.joined, f"{party} joins")
    joined = state.joined | {party}
    phase = Phase.SETUP if joined == state.expected else Phase.GATHERING
    return replace(state, joined=joined, phase=phase)


def _released(state: RunState, site: str) -> RunState:
    if site not in state.sites:
        raise PhaseError(f"the run has no site {site}")
    if state.phase is Phase.SETUP:
        return replace(state, released=state.released | {site})
    return _repeated(state, site in state.released, f"the layer of {site} is released")


def _repeated(state: RunState, allowed: bool, what: str) -> RunState:
    if not allowed:
        raise PhaseError(f"{what}, but the run is {state.phase}")
    return state
