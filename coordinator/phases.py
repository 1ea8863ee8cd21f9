"""The phases of a run as a pure state machine: a state and an event in, a state and consequences out.

GATHERING (parties join) -> SETUP (keys, secrets, layers) -> TRAINING -> FINISHED; FAILED from each but the last.
No clock, socket, thread or file: `coordinator.run` keeps the state and carries the consequences out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from coordinator.site_keys import (
    AnnounceErasure,
    AnnounceKey,
    ErasureReported,
    KeyAnnounced,
    KeyEvent,
    Keys,
    KeyWithdrawn,
    RotationAccepted,
    RotationStored,
    SiteKey,
    step_keys,
)
from mple.disk.json_records import canonical_json, record_from_json
from mple.rpc import ErrorCode, MpleError


class Phase(StrEnum):
    """Where a run is."""

    GATHERING = "gathering"
    SETUP = "setup"
    TRAINING = "training"
    FINISHED = "finished"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class SiteJoined:
    """A site of the run has announced itself."""

    site: str


@dataclass(frozen=True, slots=True)
class ComputeJoined:
    """The compute node has announced itself."""

    compute: str


@dataclass(frozen=True, slots=True)
class StemOffered:
    """The compute node has handed in a stem."""


@dataclass(frozen=True, slots=True)
class PlanAgreed:
    """The plan is made and published."""

    keys: tuple[SiteKey, ...] = ()
    """The keys that it names."""


@dataclass(frozen=True, slots=True)
class KeySealed:
    """In escrow custody, a site has left its sealed morph key."""

    site: str


@dataclass(frozen=True, slots=True)
class LayerAccepted:
    """A site's layer has passed review."""

    site: str


@dataclass(frozen=True, slots=True)
class LayersStored:
    """The compute node holds all layers."""


@dataclass(frozen=True, slots=True)
class EpochReported:
    """The compute node has finished an epoch."""

    epoch: int
    loss: float
    scores: Mapping[str, float]
    """Of all sites' validation images, by metric."""
    seconds: float


@dataclass(frozen=True, slots=True)
class NetworkReported:
    """The network that is kept has been scored."""

    message: bytes
    """A `NetworkScored`, as the compute node has told it."""


@dataclass(frozen=True, slots=True)
class TrainingDone:
    """The compute node has finished training."""


@dataclass(frozen=True, slots=True)
class PartyFailed:
    """A party, the coordinator included, can't go on."""

    party: str
    text: str


Event = (
    SiteJoined
    | ComputeJoined
    | StemOffered
    | PlanAgreed
    | KeySealed
    | LayerAccepted
    | LayersStored
    | EpochReported
    | NetworkReported
    | TrainingDone
    | PartyFailed
    | KeyEvent
)
_KEY_EVENTS = (KeyAnnounced, RotationAccepted, RotationStored, KeyWithdrawn, ErasureReported)


@dataclass(frozen=True, slots=True)
class AnnounceParty:
    """Tell a party that it is in."""

    party: str


@dataclass(frozen=True, slots=True)
class AnnouncePhase:
    """Tell all of the new phase."""

    phase: Phase
    reason: str = ""


@dataclass(frozen=True, slots=True)
class AnnounceLayer:
    """Tell the compute node that a site's layer is released."""

    site: str


@dataclass(frozen=True, slots=True)
class AnnounceEpoch:
    """Tell all of an epoch's figures."""

    report: EpochReported


@dataclass(frozen=True, slots=True)
class AnnounceScores:
    """Tell all what the network that is kept has scored."""

    message: bytes


@dataclass(frozen=True, slots=True)
class AnnounceFault:
    """Tell the compute node who failed and how."""

    party: str
    text: str


@dataclass(frozen=True, slots=True)
class MakePlan:
    """Everybody is here: make the plan, publish it, then step with `PlanAgreed` or `PartyFailed`."""


Consequence = (
    AnnounceParty
    | AnnouncePhase
    | AnnounceLayer
    | AnnounceEpoch
    | AnnounceScores
    | AnnounceFault
    | MakePlan
    | AnnounceKey
    | AnnounceErasure
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunState:
    """All that the phases depend on."""

    sites: tuple[str, ...]
    escrow: bool
    stem_due: bool
    """Whether the compute node must offer a stem."""
    proceed: bool = False
    """Whether training goes on when a site has failed."""
    phase: Phase = Phase.GATHERING
    reason: str = ""
    """Why the run has failed."""
    joined: frozenset[str] = frozenset()
    compute_joined: bool = False
    stem_offered: bool = False
    keys_sealed: frozenset[str] = frozenset()
    released: frozenset[str] = frozenset()
    keys: Keys = ()
    """Keys of all sites: the plan's, then rotated ones in the order of their announcement."""

    @property
    def ended(self) -> bool:
        """Whether nothing more can happen."""
        return self.phase in (Phase.FINISHED, Phase.FAILED)

    @property
    def gathered(self) -> bool:
        """Whether everybody is here and the plan can be made."""
        return self.joined == frozenset(self.sites) and self.compute_joined and (self.stem_offered or not self.stem_due)

    @property
    def all_released(self) -> bool:
        """Whether the compute node may have every site's layer."""
        return self.released == frozenset(self.sites)

    @property
    def layers_due(self) -> bool:
        """Whether the coordinator has layers to build: escrow custody, all keys here, not all layers released."""
        return (
            self.escrow
            and self.phase is Phase.SETUP
            and self.keys_sealed == frozenset(self.sites)
            and not self.all_released
        )

    def to_json(self) -> bytes:
        """The state as text; `from_json` reads it back as an equal state."""
        return canonical_json(self)

    @classmethod
    def from_json(cls, text: bytes) -> RunState:
        """Read a state that `to_json` wrote. Raises ValueError: it is none."""
        return record_from_json(cls, text, "the run's state")


Step = tuple[RunState, tuple[Consequence, ...]]


def step(state: RunState, event: Event) -> Step:
    """What an event makes of a state.

    Guarantees: repeats that an honest party's restart brings about (a second join, layers stored once more) change
    nothing and have no consequence in any phase but FAILED; failures after the end change nothing.

    Raises MpleError: WRONG_PHASE when the event is not due in this phase, RUN_FAILED when the run has already failed,
    UNKNOWN_PARTY for a site that is not of the run, and what `step_keys` says of a change of keys.
    """
    if isinstance(event, PartyFailed):
        return _failed(state, event)
    if state.phase is Phase.FAILED:
        raise MpleError(ErrorCode.RUN_FAILED, state.reason)
    if isinstance(event, SiteJoined | KeySealed | LayerAccepted) and event.site not in state.sites:
        raise MpleError(ErrorCode.UNKNOWN_PARTY, f"site/{event.site}")
    if isinstance(event, _KEY_EVENTS):
        return _keys_changed(state, event)
    if _known(state, event):
        return state, ()
    if state.phase is Phase.GATHERING:
        return _gathering(state, event)
    if state.phase is Phase.SETUP:
        return _setup(state, event)
    if state.phase is Phase.TRAINING:
        return _training(state, event)
    raise _wrong(state, event)


def _known(state: RunState, event: Event) -> bool:
    """Whether the event only says again what the state already holds."""
    match event:
        case SiteJoined(site):
            return site in state.joined
        case ComputeJoined():
            return state.compute_joined
        case StemOffered():
            return state.stem_offered
        case KeySealed(site):
            return site in state.keys_sealed
        case LayerAccepted(site):
            return site in state.released
        case LayersStored():
            return state.phase in (Phase.TRAINING, Phase.FINISHED)
        case TrainingDone():
            return state.phase is Phase.FINISHED
        case _:
            return False


def _gathering(state: RunState, event: Event) -> Step:
    news: tuple[Consequence, ...] = ()
    match event:
        case SiteJoined(site):
            state, news = replace(state, joined=state.joined | {site}), (AnnounceParty(f"site/{site}"),)
        case ComputeJoined(compute):
            state, news = replace(state, compute_joined=True), (AnnounceParty(f"compute/{compute}"),)
        case StemOffered() if state.stem_due:
            state = replace(state, stem_offered=True)
        case PlanAgreed(keys) if state.gathered:
            return _enter(replace(state, keys=keys), Phase.SETUP)
        case _:
            raise _wrong(state, event)
    return state, (*news, MakePlan()) if state.gathered else news


def _setup(state: RunState, event: Event) -> Step:
    match event:
        case KeySealed(site) if state.escrow:
            return replace(state, keys_sealed=state.keys_sealed | {site}), ()
        case LayerAccepted(site):
            return replace(state, released=state.released | {site}), (AnnounceLayer(site),)
        case LayersStored() if state.all_released:
            return _enter(state, Phase.TRAINING)
    raise _wrong(state, event)


def _training(state: RunState, event: Event) -> Step:
    match event:
        case EpochReported():
            return state, (AnnounceEpoch(event),)
        case NetworkReported(message):
            return state, (AnnounceScores(message),)
        case TrainingDone():
            return _enter(state, Phase.FINISHED)
    raise _wrong(state, event)


def _keys_changed(state: RunState, event: KeyEvent) -> Step:
    if state.phase not in (Phase.TRAINING, Phase.FINISHED):
        raise MpleError(ErrorCode.KEY_CHANGE_REFUSED, f"the run is {state.phase}; keys change once it trains")
    if event.site not in state.sites:
        raise MpleError(ErrorCode.UNKNOWN_PARTY, f"site/{event.site}")
    keys, news = step_keys(state.keys, event, training=state.phase is Phase.TRAINING, escrow=state.escrow)
    return replace(state, keys=keys), news


def _enter(state: RunState, phase: Phase) -> Step:
    return replace(state, phase=phase), (AnnouncePhase(phase),)


def _failed(state: RunState, event: PartyFailed) -> Step:
    if state.ended:
        return state, ()
    reason = f"{event.party}: {event.text}"
    if state.proceed and state.phase is Phase.TRAINING and event.party.startswith("site/"):
        return state, (AnnounceFault(event.party, event.text),)
    return (
        replace(state, phase=Phase.FAILED, reason=reason),
        (AnnounceFault(event.party, event.text), AnnouncePhase(Phase.FAILED, reason)),
    )


def _wrong(state: RunState, event: Event) -> MpleError:
    return MpleError(ErrorCode.WRONG_PHASE, f"{type(event).__name__} while the run is {state.phase}")
