"""What parties are told of keys, and what the coordinator's log and audit trail say of them."""

from coordinator.memory.event_log import EventLog
from coordinator.memory.layer_store import LayerStore
from coordinator.site_keys import AnnounceErasure, AnnounceKey, KeyConsequence, KeyState, SiteKey
from mple.audit import audit
from mple.node.logs import log
from mple.v1 import common_pb2, coordinator_pb2


def tell_of_key(news: KeyConsequence, events: EventLog, layers: LayerStore, compute: str) -> None:
    """Append the event of a change, within the caller's transaction; a revoked key's layer is deleted with it.

    Args:
        news: The change.
        events: The run's events.
        layers: The run's layers.
        compute: Label of the compute node, who reports what it holds and what it has erased.
    """
    key = news.key
    about: dict[str, str | int] = {"epoch": key.epoch, "fingerprint": key.fingerprint}
    match news:
        case AnnounceErasure(_, samples, layer_bytes):
            erased = coordinator_pb2.KeyErased(key_ref=_ref(key), samples=samples, layer_bytes=layer_bytes)
            events.append(coordinator_pb2.WatchResponse(key_erased=erased))
            _note(f"{compute} has erased {samples} samples of {_named(key)}", "key_erased", key)
            audit(compute, "key_erased", "ok", site=key.site, samples=samples, layer_bytes=layer_bytes, **about)
        case AnnounceKey() if key.state is KeyState.RELEASED:
            stored = layers.of_key(key.site, key.epoch)
            assert stored is not None, key
            events.append(coordinator_pb2.WatchResponse(key_rotated=coordinator_pb2.KeyRotated(header=stored.header)))
            _note(f"released the layer of {_named(key)}", "key_rotated", key)
            audit(f"site/{key.site}", "key_rotated", "ok", **about)
        case AnnounceKey() if key.state is KeyState.READY:
            events.append(coordinator_pb2.WatchResponse(key_ready=coordinator_pb2.KeyReady(key_ref=_ref(key))))
            _note(f"{compute} holds the layer of {_named(key)}", "key_ready", key)
        case AnnounceKey():
            layer_bytes = layers.erase(key.site, key.epoch)
            events.append(coordinator_pb2.WatchResponse(key_revoked=coordinator_pb2.KeyRevoked(key_ref=_ref(key))))
            _note(f"{_named(key)} is revoked, its layer deleted", "key_revoked", key)
            audit(f"site/{key.site}", "key_revoked", "ok", layer_bytes=layer_bytes, **about)


def _note(text: str, event: str, key: SiteKey) -> None:
    log(event, text, site=key.site, epoch=key.epoch)


def _named(key: SiteKey) -> str:
    return f"key {key.epoch} of site {key.site}"


def _ref(key: SiteKey) -> common_pb2.KeyRef:
    return common_pb2.KeyRef(site=key.site, epoch=key.epoch, fingerprint=bytes.fromhex(key.fingerprint))
