"""The codecs `k8` to `k3`: coefficients under a site's own basis, in steps of one size, entropy coded.

A coefficient c is written as the whole number nearest to c / D, D = 2^(3-N) for `kN` in units of normalised pixels. The
basis is orthogonal but for its rounding, so that the error is white in pixel space but for what columns that were cut
away would have held.

Legend: B samples, K blocks, d coefficients of a block, V = K·d, G cores of a key (1 or K).
"""

import copy
from typing import Self

import constriction
import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from mple.morph import MorphGeometry
from mple.v1 import common_pb2
from mple.wire.codec import Codec, CodeError, EncodedSamples
from mple.wire.coding import LEVELS_AN_OCTAVE, Coding
from mple.wire.gaussian_models import entropies
from mple.wire.laplace_models import SCALES, SYMBOLS, scale_models

_LARGEST = 32_000
"""Of a code: all fit 16 bits."""
_INSIDE = SYMBOLS // 2
"""Codes up to this are symbols of their own; the last symbol stands for all others, which are written out."""


class TransformCodec(Codec):
    """`kN`.

    Guarantees: the error of a coefficient is at most half a step, D / 2, but for float32 rounding; its range is
    ±32000·D.
    """

    code_dtype: np.dtype[np.generic] = np.dtype("<i2")
    block_exponents = False
    needs_coding = True

    def __init__(self, name: str) -> None:
        self.name, self.wire_id = name, getattr(common_pb2, f"CODEC_{name.upper().replace('.', '_')}")
        self.step = 2.0 ** (3 - float(name[1:]))
        """D, in units of normalised pixels."""
        self._coding: Coding | None = None

    @override
    def fitted(self, coding: Coding | None) -> Self:
        if coding is None:
            raise ValueError(f"codec {self.name} needs the numbers that come with a key's basis")
        one = copy.copy(self)
        one._coding = coding
        return one

    @override
    def values(self, geometry: MorphGeometry) -> int:
        return geometry.blocks * self._fit.columns

    @override
    def planned_bytes(self, geometry: MorphGeometry) -> int:
        return geometry.morphed_elements

    @override
    def encode(self, t_BKQ: NDArray[np.float32]) -> EncodedSamples:
        samples, blocks, columns = t_BKQ.shape
        codes_BKd = np.multiply(t_BKQ, np.float32(1 / self.step), dtype=np.float32)
        np.rint(codes_BKd, out=codes_BKd)
        if codes_BKd.size and not -_LARGEST <= codes_BKd.min() <= codes_BKd.max() <= _LARGEST:
            raise ValueError(f"codec {self.name}: a coefficient is NaN, infinite or beyond the codec's range")
        codes_BV = codes_BKd.astype(np.int16).reshape(samples, blocks * columns)
        return EncodedSamples(codes_BV, np.empty((samples, 0), np.uint8))

    @override
    def decode(self, coded: EncodedSamples, blocks: int) -> NDArray[np.float32]:
        samples, values = coded.codes_BV.shape
        c_BKd = coded.codes_BV.astype(np.float32).reshape(samples, blocks, values // blocks)
        c_BKd *= np.float32(self.step)
        return c_BKd

    @override
    def pack(self, coded: EncodedSamples) -> bytes:
        values = coded.codes_BV.shape[1]
        scales_V = self._scales(values)
        codes_BV: NDArray[np.int16] = coded.codes_BV.view(np.int16)
        models, coder = scale_models(), constriction.stream.stack.AnsCoder()
        for scale in reversed(range(SCALES)):  # a stack: what comes out first goes in last
            codes = codes_BV[:, scales_V == scale].ravel().astype(np.int32)
            outside = codes[np.abs(codes) > _INSIDE]
            coder.encode_reverse(outside + 2**15, models.escape)
            symbols = np.where(np.abs(codes) > _INSIDE, SYMBOLS, codes + _INSIDE).astype(np.int32)
            coder.encode_reverse(symbols, models.scales[scale])
        words: NDArray[np.uint32] = coder.get_compressed()
        return words.astype("<u4", copy=False).tobytes()

    @override
    def unpack(self, packed: bytes, *, samples: int, blocks: int, values: int) -> EncodedSamples:
        if len(packed) % 4 or (samples and not packed):
            raise CodeError(f"{len(packed)} bytes are no packed codes of {samples} samples")
        scales_V, models = self._scales(values), scale_models()
        try:
            coder = constriction.stream.stack.AnsCoder(np.frombuffer(packed, "<u4").astype(np.uint32))
        except ValueError as fault:
            raise CodeError(f"these are no packed codes: {fault}") from None
        codes_BV = np.empty((samples, values), np.int16)
        for scale in range(SCALES):
            columns = np.flatnonzero(scales_V == scale)
            symbols = coder.decode(models.scales[scale], samples * len(columns))
            codes = symbols - _INSIDE
            outside = np.flatnonzero(symbols == SYMBOLS)
            codes[outside] = coder.decode(models.escape, len(outside)) - 2**15
            if np.abs(codes[outside]).min(initial=_LARGEST) <= _INSIDE or np.abs(codes).max(initial=0) > _LARGEST:
                raise CodeError("a code that is written out has a symbol of its own, or is beyond the range")
            codes_BV[:, columns] = codes.reshape(samples, len(columns))
        if not coder.is_empty():
            raise CodeError(f"these are no packed codes of {samples} samples")
        return EncodedSamples(codes_BV, np.empty((samples, 0), np.uint8))

    @override
    def bits_a_value(self, rms_R: NDArray[np.float64], core_side: int) -> float:
        """As `Codec.bits_a_value`, for blocks without a basis: an upper bound, for no basis makes more of them."""
        with np.errstate(divide="ignore"):  # the logarithm of a black block, whose entropy is nothing
            return float(entropies(np.log2(rms_R / self.step)).mean())

    @property
    @override
    def rounding_deviation(self) -> float:
        return float(self.step / 12**0.5)

    @override
    def rounding_steps(self, peak_R: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.full_like(peak_R, self.step)

    @property
    def _fit(self) -> Coding:
        if self._coding is None:
            raise ValueError(f"codec {self.name} needs the numbers that come with a key's basis")
        return self._coding

    def _scales(self, values: int) -> NDArray[np.int64]:
        """The table of each code of a sample."""
        levels_Gd = self._fit.levels_Gd
        if values % levels_Gd.size:
            raise CodeError(f"{values} values a sample are no blocks of {levels_Gd.shape[1]} coefficients")
        scales_Gd = (levels_Gd.astype(np.int64) - _level_of(self.step)).clip(0, SCALES - 1)
        return np.resize(scales_Gd, values)


def _level_of(step: float) -> int:
    """Level of the deviation whose table is the first."""
    return round((float(np.log2(step)) + 16 - 4) * LEVELS_AN_OCTAVE)
