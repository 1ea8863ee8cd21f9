"""The codecs `q4` to `q8`: whole steps of one size, entropy coded block by block.

A value t of a block is written as the whole number nearest to t / (D·2^e), D = 2^(3-N) for `qN` in units of
normalised pixels, e the least exponent of 0 or more with which the block's largest value stays within 127 steps.
With the usual normalisation (std 0.25) the step of q8 is two grey levels of 255, that of q6 eight, that of q5 sixteen.
One step for all blocks costs 0.1 bit a value less, at equal squared error, than steps fitted to each image's largest
value, and 0.3 less than steps fitted to blocks (`benchmarks.granularity`); e is above 0 only in blocks of unusual
range, and always for `uniform` cores. Under orthogonal cores the error is white in pixel space.

What travels of a message's samples is one stream of asymmetric numeral systems (Duda, 2009) in little-endian 32-bit
words, which decodes to: exponents and classes of all blocks, each as a step from the block before, then the codes of
all blocks of class 0, of class 1, ...

Legend: B samples, K blocks, Q core side, V = K·Q, R = B·K blocks of all samples.
"""

from statistics import NormalDist

import constriction
import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from mple.v1 import common_pb2
from mple.wire.codec import Codec, CodeError, EncodedSamples
from mple.wire.gaussian_models import CLASSES, LARGEST_CODE, LARGEST_EXPONENT, classes_of, entropies, entropy_models


class BlockCodec(Codec):
    """`qN`.

    Guarantees: the error of a value is at most half a step, D·2^(e-1), exactly, for steps are powers of two; its range
    is ±127·D·2^120.
    """

    code_dtype: np.dtype[np.generic] = np.dtype("i1")
    block_exponents = True

    def __init__(self, bits: int) -> None:
        self.name, self.wire_id = f"q{bits}", getattr(common_pb2, f"CODEC_Q{bits}")
        self._step = 2.0 ** (3 - bits)
        """D, in units of normalised pixels."""

    @override
    def encode(self, t_BKQ: NDArray[np.float32]) -> EncodedSamples:
        peak_BK = np.maximum(t_BKQ.max(2), -t_BKQ.min(2))
        if not np.isfinite(peak_BK).all():
            raise ValueError(f"codec {self.name}: a morphed value is NaN or infinite")
        exponents_BK = self._exponents(peak_BK)
        if exponents_BK.size and exponents_BK.max() > LARGEST_EXPONENT:
            raise ValueError(f"codec {self.name}: a morphed value is beyond the codec's range")
        codes_BKQ = t_BKQ * np.ldexp(np.float32(1 / self._step), -exponents_BK)[:, :, None]
        np.rint(codes_BKQ, out=codes_BKQ)
        np.clip(codes_BKQ, -LARGEST_CODE, LARGEST_CODE, out=codes_BKQ)
        samples, blocks, side = t_BKQ.shape
        codes_BV = codes_BKQ.astype(np.int8).reshape(samples, blocks * side)
        return EncodedSamples(codes_BV, exponents_BK.astype(np.uint8))

    @override
    def decode(self, coded: EncodedSamples, blocks: int) -> NDArray[np.float32]:
        samples, values = coded.codes_BV.shape
        t_BKQ = coded.codes_BV.astype(np.float32).reshape(samples, blocks, values // blocks)
        t_BKQ *= np.ldexp(np.float32(self._step), coded.exponents_BK.astype(np.int32))[:, :, None]
        return t_BKQ

    @override
    def pack(self, coded: EncodedSamples) -> bytes:
        samples, blocks = coded.exponents_BK.shape
        values = coded.codes_BV.shape[1]
        codes_RQ: NDArray[np.int8] = coded.codes_BV.reshape(samples * blocks, values // blocks).view(np.int8)
        classes_R = classes_of(codes_RQ)
        models, coder = entropy_models(), constriction.stream.stack.AnsCoder()
        for number, rows in reversed(_rows_by_class(classes_R)):  # a stack: what comes out first goes in last
            coder.encode_reverse(codes_RQ[rows].ravel().astype(np.int32) + LARGEST_CODE, models.codes[number])
        coder.encode_reverse(_steps(classes_R, CLASSES - 1), models.class_steps)
        coder.encode_reverse(_steps(coded.exponents_BK.reshape(-1), LARGEST_EXPONENT), models.exponent_steps)
        words: NDArray[np.uint32] = coder.get_compressed()
        return words.astype("<u4", copy=False).tobytes()

    @override
    def unpack(self, packed: bytes, *, samples: int, blocks: int, values: int) -> EncodedSamples:
        if len(packed) % 4:
            raise CodeError(f"{len(packed)} bytes are no whole number of words")
        models = entropy_models()
        try:
            coder = constriction.stream.stack.AnsCoder(np.frombuffer(packed, "<u4").astype(np.uint32))
        except ValueError as fault:
            raise CodeError(f"these are no packed codes: {fault}") from None
        rows, side = samples * blocks, values // blocks
        codes_RQ: NDArray[np.int8] = np.empty((rows, side), np.int8)
        exponents_R = _after_steps(coder.decode(models.exponent_steps, rows), LARGEST_EXPONENT, "exponent")
        classes_R = _after_steps(coder.decode(models.class_steps, rows), CLASSES - 1, "class")
        for number, some in _rows_by_class(classes_R):
            symbols = coder.decode(models.codes[number], len(some) * side)
            codes_RQ[some] = (symbols - LARGEST_CODE).astype(np.int8).reshape(len(some), side)
        if not coder.is_empty():
            raise CodeError(f"these are no packed codes of {samples} samples")
        return EncodedSamples(codes_RQ.reshape(samples, values), exponents_R.astype(np.uint8).reshape(samples, blocks))

    @override
    def bits_a_value(self, rms_R: NDArray[np.float64], core_side: int) -> float:
        """As `Codec.bits_a_value`: the entropy of a Gaussian, rounded to steps; exponents and classes left out."""
        exponents_R = self._exponents(rms_R * _gaussian_peak(core_side))
        with np.errstate(divide="ignore"):  # the logarithm of a black block, whose entropy is nothing
            return float(entropies(np.log2(rms_R / np.ldexp(self._step, exponents_R))).mean())

    @property
    @override
    def rounding_deviation(self) -> float:
        return float(self._step / 12**0.5)

    @override
    def rounding_steps(self, peak_R: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.ldexp(self._step, self._exponents(peak_R)))

    def _exponents(self, peaks: NDArray[np.floating]) -> NDArray[np.int32]:
        """e of blocks whose largest absolute values these are."""
        exponents: NDArray[np.int32] = np.frexp(peaks / np.float32(self._step * (LARGEST_CODE + 0.5)))[1]
        return exponents.clip(0)


def _gaussian_peak(count: int) -> float:
    """Median of the largest of so many absolute values of a standard Gaussian."""
    return NormalDist().inv_cdf(0.5 * (1 + 0.5 ** (1 / count)))


def _steps(numbers_R: NDArray[np.generic], most: int) -> NDArray[np.int32]:
    signed_R = numbers_R.astype(np.int32)
    signed_R[1:] -= signed_R[:-1].copy()
    return signed_R + np.int32(most)


def _after_steps(symbols_R: NDArray[np.int32], most: int, what: str) -> NDArray[np.int64]:
    numbers_R = np.cumsum(symbols_R.astype(np.int64) - most)
    if numbers_R.size and not 0 <= numbers_R.min() <= numbers_R.max() <= most:
        raise CodeError(f"{what} {int(numbers_R.max())} or {int(numbers_R.min())}; allowed are 0 to {most}")
    return numbers_R


def _rows_by_class(classes_R: NDArray[np.int64]) -> list[tuple[int, NDArray[np.intp]]]:
    """The classes that occur, rising, each with its rows, rising."""
    order_R = np.argsort(classes_R, kind="stable")
    present, starts = np.unique(classes_R[order_R], return_index=True)
    ends = [*starts[1:].tolist(), len(order_R)]
    return [(number, order_R[start:end]) for number, start, end in zip(present.tolist(), starts, ends, strict=False)]
