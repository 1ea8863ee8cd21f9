"""The augmented layers of a run by their key, prepared for the run's arithmetic, and the codec of each key's samples.

The plan's keys are numbered in the order in which the plan names their sites, rotated ones behind them in the order in
which the run's events name them, so that the numbers in the cache stay right after a restart. A number is never used
again.

Legend: B samples, K blocks, Q core side, d coefficients of a block, V = K·d codes of a sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mple.model.device import CPU, Device
from mple.model.first_layer.prepared import PreparedLayer, Spread, prepare_layer
from mple.morph.augmented import AugmentedLayer
from mple.plan import RunPlan
from mple.v1 import common_pb2
from mple.wire.codec import Codec, EncodedSamples
from mple.wire.codecs import codec_named
from mple.wire.coding import Coding, CodingError
from mple.wire.transform_codec import TransformCodec

_WIDE_STEPS = 127 / 4
"""A coefficient of this deviation is beyond 127 steps now and then."""


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
        self._codec, self._plan = codec_named(plan.wire.codec), plan
        self._codecs: dict[int, Codec] = {}
        self._unfolded: set[int] = set()
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
        """Prepare the layer of a key that has a number, and keep only what has been prepared.

        Raises UnknownKeyError: as `number`; CodingError: the layer's coding is none of the plan's codec.
        """
        number, coding = self.number(key_ref, key_ref.site), None
        if layer.coding is not None:
            geometry = self._plan.geometry
            cores = geometry.cores(self._plan.morph.scheme())
            coding = Coding.from_bytes(layer.coding, cores=cores, core_side=geometry.core_side)
            if coding.columns != layer.values:
                raise CodingError(f"a coding of {coding.columns} coefficients in a layer for {layer.values}")
        self._codecs[number] = self._codec.fitted(coding)
        self.layers[number] = prepare_layer(layer, self._arithmetic, self.device, self._spread(coding))
        self._unfolded.discard(number)

    def _spread(self, coding: Coding | None) -> Spread:
        """Of the coefficients under a key; values of other codecs fit 8 bits."""
        if coding is None or not isinstance(self._codec, TransformCodec):
            return Spread()
        wide_d = (coding.deviations_Gd > _WIDE_STEPS * self._codec.step).any(0)
        return Spread(unit=self._codec.step, wide=int(wide_d.nonzero()[0].max(initial=-1)) + 1)

    def await_basis(self, key_ref: common_pb2.KeyRef) -> None:
        """A key's layer is here; its site has yet to send the basis that is to be folded into it."""
        self._unfolded.add(self.number(key_ref, key_ref.site))

    def ready(self, key_ref: common_pb2.KeyRef) -> bool:
        """Whether the key's layer can be applied."""
        return self._numbers.get(KeyName.of(key_ref), -1) in self.layers

    def codec(self, number: int) -> Codec:
        """What the samples under a key are coded with; it stays when the layer is dropped.

        Raises UnknownKeyError: the codec needs numbers that come with a layer or basis which has not come.
        """
        codec = self._codecs.get(number)
        if codec is None:
            if self._codec.needs_coding:
                raise UnknownKeyError(f"key number {number} has no basis here yet")
            codec = self._codec
        return codec

    def add(self, key_ref: common_pb2.KeyRef) -> int:
        """Give a rotated key the next number, or tell the one that it has."""
        return self._numbers.setdefault(KeyName.of(key_ref), len(self._numbers))

    def decoded(self, coded: EncodedSamples, keys_B: NDArray[np.int64]) -> NDArray[np.float32]:
        """t_BKQ of samples of any keys, each by its key's codec; of coefficients c_BKd as wide as the codes are, with
        zeros beyond those that a key has. Raises UnknownKeyError: as `codec`."""
        geometry, codecs = self._plan.geometry, {key: self.codec(key) for key in np.unique(keys_B).tolist()}
        if len(set(codecs.values())) == 1:
            return next(iter(codecs.values())).decode(coded, geometry.blocks)
        codes_BKd = coded.codes_BV.reshape(len(keys_B), geometry.blocks, -1)
        c_BKd = np.zeros(codes_BKd.shape, np.float32)
        for key, codec in codecs.items():
            some, columns = np.flatnonzero(keys_B == key), codec.values(geometry) // geometry.blocks
            codes_BV = np.ascontiguousarray(codes_BKd[some, :, :columns]).reshape(len(some), -1)
            c_BKd[some, :, :columns] = codec.decode(EncodedSamples(codes_BV, coded.exponents_BK[some]), geometry.blocks)
        return c_BKd

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
        self._unfolded.discard(number)

    def usable(self, key_ref: common_pb2.KeyRef) -> bool:
        """Whether the key has a layer and is not revoked."""
        name = KeyName.of(key_ref)
        return name not in self._revoked and self._held(self._numbers.get(name, -1))

    @property
    def complete(self) -> bool:
        """Whether every key of the plan has its layer, or is revoked."""
        return all(name in self._revoked or self._held(self._numbers[name]) for name in self._planned)

    def _held(self, number: int) -> bool:
        return number in self.layers or number in self._unfolded
