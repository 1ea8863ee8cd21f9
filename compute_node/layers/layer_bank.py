"""The augmented layers of a run by their key, prepared for the run's arithmetic.

The plan's keys are numbered in the order in which the plan names their sites, rotated ones behind them in the order in
which the run's events name them, so that the numbers in the cache stay right after a restart. A number is never used
again.
"""

from __future__ import annotations

from dataclasses import dataclass

from mple.model.device import CPU, Device
from mple.model.first_layer.prepared import PreparedLayer, prepare_layer
from mple.morph.augmented import AugmentedLayer
from mple.plan import RunPlan
from mple.v1 import common_pb2


class UnknownKeyError(ValueError):
    """A message names a key that the run does not have, another site's, or a revoked one."""


class ErasedKeyError(KeyError):
    """Samples were made under a key that has been revoked since; they are to be had under another."""


@dataclass(frozen=True, slots=True)
class KeyName:
    """A KeyRef as a value: site, key epoch, fingerprint in hexadecimal."""

    site: str
    epoch: int
    fingerprint: str

    @classmethod
    def of(cls, key_ref: common_pb2.KeyRef) -> KeyName:
        """From its message."""
        return cls(key_ref.site, key_ref.epoch, key_ref.fingerprint.hex())

    @property
    def short(self) -> str:
        """For texts."""
        return f"{self.site}:{self.epoch}:{self.fingerprint[:8]}"


class LayerBank:
    """Which key has which number and which layer. Threads may ask while one of them changes it."""

    def __init__(self, plan: RunPlan, device: Device = CPU) -> None:
        self.device = device
        self._numbers = {
            KeyName(site.name, site.key_epoch, site.key_fingerprint): number for number, site in enumerate(plan.sites)
        }
        self._planned = tuple(self._numbers)
        self._revoked: set[KeyName] = set()
        self._arithmetic = plan.training.first_layer
        self.layers: dict[int, PreparedLayer] = {}

    def number(self, key_ref: common_pb2.KeyRef, site: str) -> int:
        """The number of a site's key.

        Raises UnknownKeyError: the run has no such key, it is not this site's, or it is revoked.
        """
        name = KeyName.of(key_ref)
        if name.site != site or name not in self._numbers:
            raise UnknownKeyError(f"key {name.short} is not a key of site {site} in this run")
        if name in self._revoked:
            raise UnknownKeyError(f"key {name.short} is revoked; morph under the site's current key")
        return self._numbers[name]

    def store(self, key_ref: common_pb2.KeyRef, layer: AugmentedLayer) -> None:
        """Prepare the layer of a key that has a number, and keep only what has been prepared."""
        number = self.number(key_ref, key_ref.site)
        self.layers[number] = prepare_layer(layer, self._arithmetic, self.device)

    def add(self, key_ref: common_pb2.KeyRef) -> int:
        """Give a rotated key the next number, or tell the one that it has."""
        return self._numbers.setdefault(KeyName.of(key_ref), len(self._numbers))

    def refuse(self, key_ref: common_pb2.KeyRef) -> int | None:
        """Accept nothing more under a revoked key; its number, None when the run never had the key. Its layer stays
        until `drop`: samples under it may still be in use."""
        name = KeyName.of(key_ref)
        if name not in self._numbers:
            return None
        self._revoked.add(name)
        return self._numbers[name]

    def refused(self, key_ref: common_pb2.KeyRef) -> bool:
        """Whether the key is revoked."""
        return KeyName.of(key_ref) in self._revoked

    def drop(self, number: int) -> None:
        """Forget the layer of a refused key."""
        self.layers.pop(number, None)

    def usable(self, key_ref: common_pb2.KeyRef) -> bool:
        """Whether the key has a layer and is not revoked."""
        name = KeyName.of(key_ref)
        return name not in self._revoked and self._numbers.get(name, -1) in self.layers

    @property
    def complete(self) -> bool:
        """Whether every key of the plan has its layer, or is revoked."""
        return all(name in self._revoked or self._numbers[name] in self.layers for name in self._planned)
