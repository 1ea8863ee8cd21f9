"""The augmented layers of a run by their key, numbered in the order in which the plan names their sites."""

from __future__ import annotations

from dataclasses import dataclass

from mple.morph import AugmentedLayer
from mple.plan import RunPlan
from mple.v1 import common_pb2


class UnknownKeyError(ValueError):
    """A message names a key that the run does not have, or another site's."""


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


class LayerBank:
    """Which key has which number and which layer."""

    def __init__(self, plan: RunPlan) -> None:
        self._numbers = {
            KeyName(site.name, site.key_epoch, site.key_fingerprint): number for number, site in enumerate(plan.sites)
        }
        self.layers: dict[int, AugmentedLayer] = {}

    def number(self, key_ref: common_pb2.KeyRef, site: str) -> int:
        """The number of a site's key.

        Raises:
            UnknownKeyError: The plan has no such key, or it is not this site's.
        """
        name = KeyName.of(key_ref)
        if name.site != site or name not in self._numbers:
            raise UnknownKeyError(
                f"key {name.site}:{name.epoch}:{name.fingerprint[:8]} is not a key of site {site} in this run"
            )
        return self._numbers[name]

    def store(self, key_ref: common_pb2.KeyRef, layer: AugmentedLayer) -> None:
        """Keep the layer of a key of the plan."""
        self.layers[self.number(key_ref, key_ref.site)] = layer

    @property
    def complete(self) -> bool:
        """Whether every key of the plan has its layer."""
        return len(self.layers) == len(self._numbers)
