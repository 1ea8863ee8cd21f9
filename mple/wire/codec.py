"""Codecs: morphed values to codes and back, and codes to the bytes that travel.

A received sample is kept as codes, so that it can be read again at each epoch; what travels is what `pack` makes of
the codes of one message.

Legend: B samples, K blocks, Q core side, V = K·Q morphed values of one sample.

| codec | bytes a value as kept | as it travels | largest error of a value |
| --- | --- | --- | --- |
| `f32` | 4 | 4 | none |
| `f16` | 2 | 2 | relative 2^-11 for 6.1e-5 <= abs <= 65504, below that absolute 3e-8 |
| `q8` ... `q4` | 1 | entropy coded | half a step of its block, see `mple.wire.block_codec` |
| `k8` ... `k3` | 2 | entropy coded | half a step of a coefficient, see `mple.wire.transform_codec` |

A transform codec codes coefficients (d of them a block, as many as the basis of a key has) in the place of morphed
values, by the public numbers that come with the basis: `codec.fitted(coding)` is the one for a key.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from mple.morph import MorphGeometry
from mple.v1 import common_pb2
from mple.wire.coding import Coding


class CodeError(ValueError):
    """Bytes that no sample packs to."""


@dataclass(frozen=True, slots=True)
class EncodedSamples:
    """Coded samples: `codes_BV` of the codec's little-endian dtype, `exponents_BK` of bytes or without columns."""

    codes_BV: NDArray[np.generic]
    exponents_BK: NDArray[np.uint8]


class Codec(ABC):
    """One way to write morphed values.

    Guarantees: `decode(encode(t))` differs from t by no more than the bound in the table above; each sample is coded
    by itself, so that samples may be regrouped without another coding; `unpack(pack(coded))` is `coded`, bit for bit;
    equal inputs give equal bytes on every machine.
    """

    name: str
    wire_id: common_pb2.Codec
    code_dtype: np.dtype[np.generic]
    block_exponents: bool
    """Whether each block of a sample has an exponent, one byte."""
    needs_coding: bool = False
    """Whether `fitted` must be given the numbers of a key before anything can be coded."""

    def fitted(self, coding: Coding | None) -> Self:
        """The codec for samples under one key. Raises ValueError: numbers for a codec that has no use for them, or
        none for one that needs them."""
        if coding is not None:
            raise ValueError(f"codec {self.name} codes morphed values as they are: it takes no numbers of a basis")
        return self

    def values(self, geometry: MorphGeometry) -> int:
        """Values of one sample as `encode` takes them."""
        return geometry.morphed_elements

    @abstractmethod
    def encode(self, t_BKQ: NDArray[np.float32]) -> EncodedSamples:
        """Code float32 values. Raises ValueError: a value is NaN or infinite, or beyond the codec's range."""

    @abstractmethod
    def decode(self, coded: EncodedSamples, blocks: int) -> NDArray[np.float32]:
        """The values, as `encode` or `unpack` coded them, float32 (B, K, Q) in memory of their own."""

    @abstractmethod
    def pack(self, coded: EncodedSamples) -> bytes:
        """The bytes that travel for the samples of one message."""

    @abstractmethod
    def unpack(self, packed: bytes, *, samples: int, blocks: int, values: int) -> EncodedSamples:
        """The codes behind packed bytes from the wire, which are not trusted, perhaps as views of them.

        The caller has checked `samples`: memory for as many is allocated.

        Raises CodeError: no samples of these numbers pack to these bytes, or a value would not be finite.
        """

    @abstractmethod
    def bits_a_value(self, rms_R: NDArray[np.float64], core_side: int) -> float:
        """Bits that a value takes as it travels: the mean over blocks of near Gaussian values, as morphing makes them.
        `rms_R` is the root mean square of each block's values, in units of normalised pixels; `core_side` is Q."""

    @property
    def rounding_deviation(self) -> float:
        """Standard deviation of what coding adds to a value of usual range; 0 where that is next to nothing."""
        return 0.0

    def rounding_steps(self, peak_R: NDArray[np.float64]) -> NDArray[np.float64]:
        """The steps to whose multiples blocks with these largest values were rounded; 0 where there is none."""
        return np.zeros_like(peak_R)

    def sample_bytes(self, *, blocks: int, values: int) -> int:
        """Bytes of one sample as kept: its codes and exponents."""
        return values * self.code_dtype.itemsize + (blocks if self.block_exponents else 0)

    def planned_bytes(self, geometry: MorphGeometry) -> int:
        """Bytes by which samples are counted into a message: the same for all keys of a plan."""
        return self.sample_bytes(blocks=geometry.blocks, values=geometry.morphed_elements)


class FloatCodec(Codec):
    """Values as IEEE binary32 or binary16."""

    block_exponents = False

    def __init__(self, name: str, wire_id: common_pb2.Codec, dtype: str) -> None:
        self.name, self.wire_id, self.code_dtype = name, wire_id, np.dtype(dtype)

    @override
    def encode(self, t_BKQ: NDArray[np.float32]) -> EncodedSamples:
        samples, blocks, side = t_BKQ.shape
        values_BV = np.ascontiguousarray(t_BKQ).reshape(samples, blocks * side)
        with np.errstate(over="ignore"):
            codes_BV = values_BV.astype(self.code_dtype, copy=False)
        if not np.isfinite(codes_BV).all():
            raise ValueError(f"codec {self.name}: a morphed value is NaN, infinite or beyond the codec's range")
        return EncodedSamples(codes_BV, _no_exponents(len(codes_BV)))

    @override
    def decode(self, coded: EncodedSamples, blocks: int) -> NDArray[np.float32]:
        samples, values = coded.codes_BV.shape
        return coded.codes_BV.astype(np.float32).reshape(samples, blocks, values // blocks)

    @override
    def pack(self, coded: EncodedSamples) -> bytes:
        return coded.codes_BV.tobytes()

    @override
    def unpack(self, packed: bytes, *, samples: int, blocks: int, values: int) -> EncodedSamples:
        due = samples * values * self.code_dtype.itemsize
        if len(packed) != due:
            raise CodeError(f"{len(packed)} bytes of codes instead of {due}")
        codes_BV = np.frombuffer(packed, self.code_dtype).reshape(samples, values)
        if not np.isfinite(codes_BV.astype(np.float32)).all():
            raise CodeError("a morphed value is NaN or infinite")
        return EncodedSamples(codes_BV, _no_exponents(samples))

    @override
    def bits_a_value(self, rms_R: NDArray[np.float64], core_side: int) -> float:
        return 8.0 * self.code_dtype.itemsize


def _no_exponents(samples: int) -> NDArray[np.uint8]:
    return np.empty((samples, 0), np.uint8)
