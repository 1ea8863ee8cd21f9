"""The codecs `k8` to `k3`: coefficients under a site's own basis, in steps of one size, entropy coded.

A coefficient c is written in whole steps of D = 2^(3-N) for `kN` in units of normalised pixels, half numbers N too. The
basis is orthogonal but for its rounding, so the error is white in pixel space but for what was rounded to 0 and for
columns that were left out of the basis. Magnitudes are rounded up late where most codes are 0 (`Coding.codes`): at
equal squared error this takes fewer bits than rounding to the nearest.

What travels of a message's samples is one stream (`mple.wire.coefficient_stream`), which holds the first sub-band wave
by wave of tiles, then the others of all blocks, each code under the table of its block's class (`mple.wire.contexts`).

Legend: B samples, K blocks, d coefficients of a block, V = K·d, G cores of a key (1 or K), w columns of a sub-band,
n = K·B rows.
"""

import copy
from typing import Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from mple.morph import MorphGeometry
from mple.v1 import common_pb2
from mple.wire.codec import Codec, CodeError, EncodedSamples
from mple.wire.coding import Coding
from mple.wire.coefficient_stream import LARGEST_CODE, Stream, StreamReader, StreamWriter
from mple.wire.contexts import FIRST_FEATURES, FirstBand, Magnitudes, classes_of, sub_bands
from mple.wire.gaussian_models import entropies

_ENERGY_FALLS = -2.2


class TransformCodec(Codec):
    """`kN`.

    Guarantees: the error of a coefficient is at most 3/4 of a step, D, but for float32 rounding, and half a step where
    coefficients spread over many steps; their range is ±32000·D.
    """

    code_dtype: np.dtype[np.generic] = np.dtype("<i2")
    block_exponents = False
    needs_coding = True

    def __init__(self, name: str) -> None:
        self.name, self.wire_id = name, getattr(common_pb2, f"CODEC_{name.upper().replace('.', '_')}")
        self.step = 2.0 ** (3 - float(name[1:]))
        """D, in units of normalised pixels."""
        self._fitted: Coding | None = None

    @override
    def fitted(self, coding: Coding | None) -> Self:
        if coding is None:
            raise ValueError(f"codec {self.name} needs the numbers that come with a key's basis")
        one = copy.copy(self)
        one._fitted = coding
        return one

    @override
    def values(self, geometry: MorphGeometry) -> int:
        return geometry.blocks * self._coding.columns

    @override
    def planned_bytes(self, geometry: MorphGeometry) -> int:
        return -(-geometry.morphed_elements // 2)  # codes take less than 4 bits a value as they travel, mostly

    @override
    def encode(self, t_BKQ: NDArray[np.float32]) -> EncodedSamples:
        samples, blocks, columns = t_BKQ.shape
        codes_BKd = self._coding.codes(t_BKQ, self.step)
        if codes_BKd.size and not -LARGEST_CODE <= codes_BKd.min() <= codes_BKd.max() <= LARGEST_CODE:
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
        coding = self._coding
        samples, values = coded.codes_BV.shape
        blocks = self._blocks(values)
        codes_dKB = np.ascontiguousarray(
            coded.codes_BV.reshape(samples, blocks, coding.columns).transpose(2, 1, 0), np.int32
        )
        if not samples:
            return b""
        writer = StreamWriter()
        _walk(coding, codes_dKB, writer)
        return writer.to_bytes()

    @override
    def unpack(self, packed: bytes, *, samples: int, blocks: int, values: int) -> EncodedSamples:
        coding, reader = self._coding, StreamReader(packed)
        if self._blocks(values) != blocks:
            raise CodeError(f"{values} values in {blocks} blocks; a block has {coding.columns} coefficients")
        codes_dKB = np.empty((coding.columns, blocks, samples), np.int32)
        if samples:
            _walk(coding, codes_dKB, reader)
            reader.require_end(samples)
        elif packed:
            raise CodeError(f"{len(packed)} bytes of codes of no sample")
        if codes_dKB.size and not -LARGEST_CODE <= codes_dKB.min() <= codes_dKB.max() <= LARGEST_CODE:
            raise CodeError(f"a code beyond {LARGEST_CODE}")
        codes_BV = np.ascontiguousarray(codes_dKB.transpose(2, 1, 0), np.int16).reshape(samples, values)
        return EncodedSamples(codes_BV, np.empty((samples, 0), np.uint8))

    @override
    def bits_a_value(self, rms_R: NDArray[np.float64], core_side: int) -> float:
        """As `Codec.bits_a_value`, a forecast before there is a basis: as if coefficient j of a block had a share of
        its energy that falls with j^-2.2. Right within a tenth for photographs and X-rays, half too much for pictures
        with a black ground."""
        shares_Q = np.arange(1.0, core_side + 1) ** _ENERGY_FALLS
        logs_Q = np.log2(core_side * shares_Q / shares_Q.sum()) / 2
        grid = np.arange(-16.0, 16.0, 1 / 4)
        bits = [float(entropies(log + logs_Q).mean()) for log in grid]
        with np.errstate(divide="ignore"):  # the logarithm of a black block, whose entropy is nothing
            return float(np.interp(np.log2(rms_R / self.step), grid, bits).mean())

    @property
    @override
    def rounding_deviation(self) -> float:
        return float(self.step / 12**0.5)

    @override
    def rounding_steps(self, peak_R: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.full_like(peak_R, self.step)

    @property
    def _coding(self) -> Coding:
        if self._fitted is None:
            raise ValueError(f"codec {self.name} needs the numbers that come with a key's basis")
        return self._fitted

    def _blocks(self, values: int) -> int:
        coding = self._coding
        blocks, left = divmod(values, coding.columns)
        places = coding.grid[0] * coding.grid[1] if coding.cores == 1 else coding.cores
        if left or places not in (1, blocks):
            raise CodeError(
                f"{values} values a sample; the basis has {coding.columns} columns for each of {places} blocks"
            )
        return blocks


def _walk(coding: Coding, codes_dKB: NDArray[np.int32], stream: Stream) -> None:
    """Write all codes, or read them into the array: both ends take the same way."""
    columns, blocks, samples = codes_dKB.shape
    grid = coding.grid
    if grid == (1, 1):
        blocks, samples = 1, blocks * samples
        codes_dKB = codes_dKB.reshape(columns, blocks, samples)
    weights_SF = coding.weights_SF.astype(np.float64)
    parts = sub_bands(columns)
    magnitudes = Magnitudes(len(parts), grid, samples)
    low, high = parts[0]
    first_wKB = codes_dKB[low:high]
    if coding.predicted:
        magnitudes.add(_walk_waves(coding, first_wKB, stream).reshape(high - low, -1))
    else:
        first_wn = first_wKB.reshape(high - low, -1)
        stream.codes(first_wn, np.full(first_wn.shape[1], coding.start, np.uint8))
        magnitudes.add(first_wn)
    magnitudes.add_first(first_wKB.reshape(high - low, -1))
    for number, (low, high) in enumerate(parts[1:], start=1):
        codes_wn = codes_dKB[low:high].reshape(high - low, -1)
        classes_n = classes_of(magnitudes.expected(weights_SF[number]))
        stream.codes(codes_wn, coding.tables_SC[number][classes_n])
        magnitudes.add(codes_wn)


def _walk_waves(coding: Coding, codes_wKB: NDArray[np.int32], stream: Stream) -> NDArray[np.int32]:
    """The first sub-band, predicted from tiles to the left and above; returns what the predictions missed."""
    width, _, samples = codes_wKB.shape
    first = FirstBand(width, coding.grid, samples)
    missed_wKB = np.empty_like(codes_wKB)
    weights_F = coding.weights_SF[0, :FIRST_FEATURES].astype(np.float64)
    for wave, tiles in enumerate(first.near.waves):
        mean_wKB, features = first.predictions(tiles)
        some_wKB = np.ascontiguousarray(codes_wKB[:, tiles] - mean_wKB)  # what is there already, where it is written
        if wave:
            expected_n = weights_F @ features.reshape(FIRST_FEATURES, -1)
            tables_n = coding.tables_SC[0][classes_of(expected_n)]
        else:
            tables_n = np.full(samples, coding.start, np.uint8)
        stream.codes(some_wKB.reshape(width, -1), tables_n)
        codes_wKB[:, tiles] = mean_wKB + some_wKB
        missed_wKB[:, tiles] = some_wKB
        first.fill(tiles, some_wKB, mean_wKB)
    return missed_wKB
