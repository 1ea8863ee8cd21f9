"""What becomes of the sites' keys in a run, as a pure part of the state machine of `coordinator.phases`.

The plan's keys are READY from the start. A rotated key is ANNOUNCED, RELEASED once its layer has passed review, READY
once the compute node holds that layer; then the site uses it. A key that a newer READY one has replaced may be REVOKED
and, once the compute node says so, is ERASED.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from mple.rpc import ErrorCode, MpleError

MOST_EPOCHS = 64
"""Keys that one site may have in a run: each costs everybody a layer."""


class KeyState(StrEnum):
    """Where a key is."""

    ANNOUNCED = "announced"
    RELEASED = "released"
    READY = "ready"
    REVOKED = "revoked"
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class SiteKey:
    """One key of one site in a run."""

    site: str
    epoch: int
    fingerprint: str
    """Hexadecimal."""
    state: KeyState = KeyState.READY

    @property
    def usable(self) -> bool:
        """Whether its layer may be reviewed, released and downloaded."""
        return self.state not in (KeyState.REVOKED, KeyState.ERASED)


Keys = tuple[SiteKey, ...]


@dataclass(frozen=True, slots=True)
class KeyAnnounced:
    """A site will bring the layer of its next key."""

    site: str
    epoch: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class RotationAccepted:
    """The layer of a rotated key has passed review."""

    site: str
    epoch: int


@dataclass(frozen=True, slots=True)
class RotationStored:
    """The compute node holds the layer of a rotated key."""

    site: str
    epoch: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class KeyWithdrawn:
    """A site has revoked one of its keys."""

    site: str
    epoch: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class ErasureReported:
    """The compute node has erased what it held under a revoked key."""

    site: str
    epoch: int
    fingerprint: str
    samples: int
    layer_bytes: int


KeyEvent = KeyAnnounced | RotationAccepted | RotationStored | KeyWithdrawn | ErasureReported


@dataclass(frozen=True, slots=True)
class AnnounceKey:
    """Tell all of a key's new state: RELEASED, READY or REVOKED; the layer of a revoked one is deleted."""

    key: SiteKey


@dataclass(frozen=True, slots=True)
class AnnounceErasure:
    """Tell all that the compute node has erased a key's data."""

    key: SiteKey
    samples: int
    layer_bytes: int


KeyConsequence = AnnounceKey | AnnounceErasure
KeyStep = tuple[Keys, tuple[KeyConsequence, ...]]


def step_keys(keys: Keys, event: KeyEvent, *, training: bool, escrow: bool) -> KeyStep:
    """What an event makes of the keys.

    Args:
        keys: All keys of the run.
        event: What happened.
        training: Whether the run is in training; otherwise it has finished, and no key can be rotated.
        escrow: Whether the coordinator builds the layers.

    Guarantees: repeats change nothing and have no consequence; a site always keeps a usable key.

    Raises:
        MpleError: KEY_CHANGE_REFUSED when the change is not possible, UNKNOWN_KEY_REF for a key that the run never had.
    """
    match event:
        case KeyAnnounced():
            return _announced(keys, event, training=training, escrow=escrow)
        case RotationAccepted(site, epoch):
            key = _key(keys, site, epoch)
            if not training or not key.usable:
                raise _refused(f"the layer of {_named(key)} comes too late: the key is revoked or training is over")
            return _moved(keys, key, KeyState.ANNOUNCED, KeyState.RELEASED)
        case RotationStored(site, epoch, fingerprint):
            return _moved(keys, _key(keys, site, epoch, fingerprint), KeyState.RELEASED, KeyState.READY)
        case KeyWithdrawn(site, epoch, fingerprint):
            return _withdrawn(keys, _key(keys, site, epoch, fingerprint), training=training)
        case ErasureReported(site, epoch, fingerprint, samples, layer_bytes):
            key = _key(keys, site, epoch, fingerprint)
            if key.usable:
                raise _refused(f"{_named(key)} is not revoked")
            keys, news = _moved(keys, key, KeyState.REVOKED, KeyState.ERASED)
            return keys, tuple(AnnounceErasure(item.key, samples, layer_bytes) for item in news)


def find_key(keys: Keys, site: str, epoch: int) -> SiteKey | None:
    """The key of an epoch, None when the run never had it."""
    return next((key for key in keys if (key.site, key.epoch) == (site, epoch)), None)


def _announced(keys: Keys, event: KeyAnnounced, *, training: bool, escrow: bool) -> KeyStep:
    known = find_key(keys, event.site, event.epoch)
    if known is not None and known.fingerprint == event.fingerprint and known.usable:
        return keys, ()
    if escrow:
        raise _refused(
            "in escrow custody the coordinator builds the layers once, at set-up: a run keeps the keys that it began "
            "with; the next run takes the new one"
        )
    if not training:
        raise _refused("keys are rotated while a run trains; the next run takes the new one")
    own = [key for key in keys if key.site == event.site]
    newest = max(key.epoch for key in own)
    if event.epoch <= newest:
        raise _refused(f"epoch {event.epoch} of site {event.site} does not follow on its newest, {newest}")
    if any(key.fingerprint == event.fingerprint for key in own):
        raise _refused(f"epoch {event.epoch} of site {event.site} is a key that the run has already")
    if len(own) >= MOST_EPOCHS:
        raise _refused(f"site {event.site} has had {len(own)} keys in this run; allowed are {MOST_EPOCHS}")
    # One whose layer never came gives way: the site has rotated again before it was through.
    kept = tuple(key for key in keys if key.site != event.site or key.state is not KeyState.ANNOUNCED)
    return (*kept, SiteKey(event.site, event.epoch, event.fingerprint, KeyState.ANNOUNCED)), ()


def _withdrawn(keys: Keys, key: SiteKey, *, training: bool) -> KeyStep:
    if not key.usable:
        return keys, ()
    newer = any(other.site == key.site and other.epoch > key.epoch and other.state is KeyState.READY for other in keys)
    if training and not newer:
        raise _refused(f"{_named(key)} has no successor that is in use; rotate first: mple keys rotate")
    if key.state is KeyState.ANNOUNCED:  # nobody has heard of it
        return tuple(other for other in keys if other is not key), ()
    return _moved(keys, key, key.state, KeyState.REVOKED)


def _moved(keys: Keys, key: SiteKey, before: KeyState, after: KeyState) -> KeyStep:
    if key.state is not before:
        return keys, ()
    moved = replace(key, state=after)
    return tuple(moved if other is key else other for other in keys), (AnnounceKey(moved),)


def _key(keys: Keys, site: str, epoch: int, fingerprint: str | None = None) -> SiteKey:
    key = find_key(keys, site, epoch)
    if key is None or fingerprint not in (None, key.fingerprint):
        raise MpleError(
            ErrorCode.UNKNOWN_KEY_REF, f"key {site[:80]}:{epoch}:{(fingerprint or '')[:8]} is not a key of this run"
        )
    return key


def _named(key: SiteKey) -> str:
    return f"key {key.site}:{key.epoch}:{key.fingerprint[:8]}"


def _refused(text: str) -> MpleError:
    return MpleError(ErrorCode.KEY_CHANGE_REFUSED, text)
