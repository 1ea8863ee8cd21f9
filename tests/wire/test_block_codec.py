"""The codecs q4 to q8: their codes by hand, the bounds of their error, and what travels of them, honest and hostile.

Legend: B samples, K blocks, Q core side, V = K·Q.
"""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from mple.wire.codec import Codec, CodeError, EncodedSamples
from mple.wire.codecs import codec_named
from mple.wire.gaussian_models import LARGEST_CODE, LARGEST_EXPONENT

STEPS = {"q8": 2.0**-5, "q7": 2.0**-4, "q6": 2.0**-3, "q5": 2.0**-2, "q4": 2.0**-1}
each_codec = pytest.mark.parametrize("name", STEPS)
Q6 = codec_named("q6")

GOLDEN_BKQ = np.array(
    [[[0.0, 1.0, -2.5, 0.3], [0.0, 0.0, 0.0, 0.0]], [[-6e-8, 1e-3, 100.0, 8.0], [0.5, -1.5, 2.25, -3.0]]], np.float32
)
GOLDEN = {
    "q8": ("0020b00a000000000000640810d048a0", "00000500", "2301f8b092dc0994d718ad460b0000faf3ffffff851f6dc536b8650b"),
    "q7": ("0010d805000000000000640808e824d0", "00000400", "5004df6a186fc32bcbf11f7c230000cb32020092908244c3ca0f2100"),
    "q6": ("0008ec02000000000000640804f412e8", "00000300", "4e12e02c58c707f6f4ffffbd90ffff7f6202002fe0e56ccf02000000"),
    "q5": ("0004f601000000000000640802fa09f4", "00000200", "088b388ea9e3008df5ffffe46cfdff6e59c4ee4be40d0000"),
    "q4": ("0002fb01000000000000640801fd04fa", "00000100", "55f2a2222539004a590e00ea4b9c455b6e0c3c00"),
}
"""Codes, exponents and packed bytes, hexadecimal."""


@each_codec
def test_golden_bytes(name: str) -> None:
    """By hand, for q8 with its step of 1/32; each codec down to q4 has half as many steps as the one before.

    Block 0: 0, 1, -2.5 and 0.3 are 0, 32, -80 and 9.6 steps: 00, 20, b0 (256 - 80) and 10 = 0a. In q4, whose step is
    1/2, they are 0, 2, -5 and 0.6.
    Block 1: zeros; the exponent of a block is never below 0.
    Block 2: 100 is 3200 steps; 2^5 is the first power that leaves at most 127 of them, 100 = 64. At this block's step
    of 1, whatever the codec, 8 is 08, and 0.001 and -6e-8 are nothing. Each codec less has an exponent less: 5, 4, 3,
    2, 1.
    Block 3: 0.5, -1.5, 2.25, -3 are 16, -48, 72, -96 steps: 10, d0, 48, a0. In q4 2.25 is 4.5 steps: the even 4.

    The packed bytes are what the released coder made; data on the way between two versions must stay readable.
    """
    codec = codec_named(name)
    coded = codec.encode(GOLDEN_BKQ)
    packed = codec.pack(coded)
    assert (coded.codes_BV.tobytes().hex(), coded.exponents_BK.tobytes().hex(), packed.hex()) == GOLDEN[name]
    assert (str(coded.codes_BV.dtype), str(coded.exponents_BK.dtype)) == ("int8", "uint8")
    back = codec.unpack(bytes.fromhex(GOLDEN[name][2]), samples=2, blocks=2, values=8)
    assert (back.codes_BV.tobytes().hex(), back.exponents_BK.tobytes().hex()) == GOLDEN[name][:2]


def values_up_to(largest: float) -> st.SearchStrategy[NDArray[np.float32]]:
    bound = float(np.float32(largest))
    shapes = hnp.array_shapes(min_dims=3, max_dims=3, max_side=5)
    return hnp.arrays(np.float32, shapes, elements=st.floats(-bound, bound, width=32))


@each_codec
@settings(deadline=None)
@given(data=st.data())
def test_the_error_is_at_most_half_a_step_and_the_exponent_as_small_as_can_be(name: str, data: st.DataObject) -> None:
    """Exactly: both the division by a step and the multiplication with it only change a binary exponent.

    One exponent less, and the largest value of the block would be 127.5 steps or more.
    """
    codec, step = codec_named(name), STEPS[name]
    ranges = (step, 3.0, 127 * step, 1000.0, 127 * step * 2.0**LARGEST_EXPONENT)
    values = data.draw(values_up_to(data.draw(st.sampled_from(ranges))))
    coded = codec.encode(values)
    exact_BKQ = values.astype(np.float64)
    exponents_BK = coded.exponents_BK.astype(int)
    step_BK = step * 2.0**exponents_BK
    back_BKQ = codec.decode(coded, values.shape[1]).astype(np.float64)
    assert (np.abs(back_BKQ - exact_BKQ) <= step_BK[..., None] / 2).all()
    assert np.abs(coded.codes_BV.astype(int)).max() <= LARGEST_CODE
    peak_BK = np.abs(exact_BKQ).max(axis=2)
    too_small = peak_BK / (step_BK / 2) >= 127.5 * (1 - 2.0**-23)
    assert (too_small | (exponents_BK == 0)).all()


@each_codec
def test_the_whole_range_can_be_coded_and_nothing_beyond(name: str) -> None:
    codec = codec_named(name)
    step = STEPS[name] * 2.0**LARGEST_EXPONENT
    coded = codec.encode(np.array([[[127 * step, -127 * step, 0.0]]], np.float32))
    assert (coded.codes_BV.tolist(), coded.exponents_BK.tolist()) == ([[127, -127, 0]], [[LARGEST_EXPONENT]])
    assert codec.decode(coded, 1).flatten().tolist() == [127 * step, -127 * step, 0]
    for value in (127.5 * step, -128 * step, 3.4e38):
        with pytest.raises(ValueError, match=f"codec {name}: a morphed value is beyond the codec's range"):
            codec.encode(np.array([[[0.0, value]]], np.float32))


@each_codec
@pytest.mark.parametrize("at", [0, 7, 11])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_none_is_refused_wherever_it_is(name: str, at: int, value: float) -> None:
    t_BKQ = np.ones((2, 2, 3), np.float32)
    t_BKQ.reshape(-1)[at] = value
    with pytest.raises(ValueError, match=f"codec {name}: a morphed value is NaN or infinite"):
        codec_named(name).encode(t_BKQ)


def as_coded(codes_BKQ: NDArray[np.generic], exponents_BK: NDArray[np.generic] | None = None) -> EncodedSamples:
    samples, blocks, side = codes_BKQ.shape
    exponents = np.zeros((samples, blocks)) if exponents_BK is None else exponents_BK
    return EncodedSamples(codes_BKQ.astype(np.int8).reshape(samples, blocks * side), exponents.astype(np.uint8))


def assert_comes_back(coded: EncodedSamples, codec: Codec = Q6) -> bytes:
    samples, blocks = coded.exponents_BK.shape
    packed = codec.pack(coded)
    back = codec.unpack(packed, samples=samples, blocks=blocks, values=coded.codes_BV.shape[1])
    assert (str(back.codes_BV.dtype), str(back.exponents_BK.dtype)) == ("int8", "uint8")
    assert (back.codes_BV.shape, back.exponents_BK.shape) == (coded.codes_BV.shape, coded.exponents_BK.shape)
    assert back.codes_BV.tobytes() == coded.codes_BV.tobytes()
    assert back.exponents_BK.tobytes() == coded.exponents_BK.tobytes()
    return packed


@st.composite
def any_codes(draw: st.DrawFn) -> EncodedSamples:
    """Any codes and exponents at all, those of no real block included."""
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=6))
    largest = draw(st.sampled_from((0, 1, 3, LARGEST_CODE)))
    codes_BKQ = draw(hnp.arrays(np.int8, shape, elements=st.integers(-largest, largest)))
    exponents_BK = draw(hnp.arrays(np.uint8, shape[:2], elements=st.integers(0, LARGEST_EXPONENT)))
    return as_coded(codes_BKQ, exponents_BK)


@settings(max_examples=400, deadline=None)
@given(coded=any_codes())
def test_any_codes_come_back_bit_for_bit(coded: EncodedSamples) -> None:
    assert_comes_back(coded)


OUTLIER = np.zeros((1, 1, 50_000), np.int8)
OUTLIER[0, 0, 31_415] = LARGEST_CODE
EXTREMES = {
    "nothing but zeros": np.zeros((3, 4, 192)),
    "one value": np.full((1, 1, 1), -5),
    "all largest": np.full((2, 3, 64), LARGEST_CODE),
    "all least, which cost nothing at an empty stack's end": np.full((2, 3, 64), -LARGEST_CODE),
    "zeros but for one": OUTLIER,
    "zeros after and before the widest": np.array([0, 127, 0, -127])[:, None, None] * np.ones((4, 1, 64)),
    "a picture of 3 x 224 x 224": np.random.default_rng(1).normal(0, 9, (1, 784, 192)).round(),
    "whatever": np.random.default_rng(2).integers(-127, 128, (7, 5, 33)),
}


@pytest.mark.parametrize("extreme", EXTREMES)
def test_extreme_codes_come_back(extreme: str) -> None:
    codes_BKQ = EXTREMES[extreme]
    assert_comes_back(as_coded(codes_BKQ))
    steps = np.resize([0, LARGEST_EXPONENT, 0, 60], codes_BKQ.shape[:2])
    assert_comes_back(as_coded(codes_BKQ, steps))


@settings(max_examples=200, deadline=None)
@given(coded=any_codes() | st.sampled_from([as_coded(codes_BKQ) for codes_BKQ in EXTREMES.values()]))
def test_no_codes_are_much_longer_when_packed(coded: EncodedSamples) -> None:
    """Each block's model has the mean square of its codes: a byte and 5 % a value, 6 bytes a block, 2 words at most."""
    values, blocks = coded.codes_BV.size, coded.exponents_BK.size
    assert len(Q6.pack(coded)) <= 1.05 * values + 6 * blocks + 8


def gaussian_bits(deviation: float, codes: NDArray[np.int64]) -> float:
    """Bits of these codes under the Gaussian that they were drawn from, rounded to whole numbers: the ideal."""
    edge = [math.erfc((code - 0.5) / (deviation * math.sqrt(2))) for code in range(1, LARGEST_CODE + 2)]
    mass = [1 - edge[0], *((edge[code - 1] - edge[code]) / 2 for code in range(1, LARGEST_CODE + 1))]
    counts: list[int] = np.bincount(np.abs(codes).ravel(), minlength=LARGEST_CODE + 1).tolist()
    return -math.fsum(count * math.log2(mass[code]) for code, count in enumerate(counts) if count)


@pytest.mark.parametrize("deviation", [0.2, 0.3, 0.4, 0.5, 0.77, 1.0, 1.09, 2.2, 3.36, 8.0, 24.0])
def test_gaussian_codes_cost_little_more_than_their_entropy(deviation: float) -> None:
    """2 % and 3 bits a block, which name its exponent and its model."""
    codes_BKQ = np.rint(np.random.default_rng(1).normal(0, deviation, (64, 16, 192))).astype(np.int64)
    packed_bits = 8 * len(Q6.pack(as_coded(codes_BKQ)))
    ideal_bits = gaussian_bits(deviation, codes_BKQ)
    assert ideal_bits < packed_bits < 1.02 * ideal_bits + 3 * 64 * 16


def test_blocks_of_unlike_contrast_are_coded_each_by_its_own() -> None:
    """Flat and lively blocks of a picture in one message: 2 % and 8 bits a block above the sum of their entropies."""
    generator = np.random.default_rng(3)
    deviations = 2.0 ** generator.uniform(-1, 5, (32, 16))
    codes_BKQ = np.rint(generator.normal(0, 1, (32, 16, 192)) * deviations[..., None]).clip(-127, 127).astype(np.int64)
    rows = zip(deviations.ravel().tolist(), codes_BKQ.reshape(-1, 192), strict=True)
    ideal_bits = sum(gaussian_bits(deviation, codes) for deviation, codes in rows)
    assert 8 * len(Q6.pack(as_coded(codes_BKQ))) < 1.02 * ideal_bits + 8 * 32 * 16


HONEST = as_coded(np.random.default_rng(4).normal(0, 6, (3, 4, 20)).round())
PACKED = Q6.pack(HONEST)


def refused_or_sound(packed: bytes, samples: int = 3, blocks: int = 4, values: int = 80) -> bool:
    """Whether bytes are refused, by the one exception that is for it; else their values are ones that can be."""
    try:
        coded = Q6.unpack(packed, samples=samples, blocks=blocks, values=values)
    except CodeError:
        return True
    assert (coded.codes_BV.shape, coded.exponents_BK.shape) == ((samples, values), (samples, blocks))
    assert int(np.abs(coded.codes_BV.astype(int)).max(initial=0)) <= LARGEST_CODE, "-128 is no code"
    assert int(coded.exponents_BK.max(initial=0)) <= LARGEST_EXPONENT
    assert np.isfinite(Q6.decode(coded, blocks)).all()
    return False


def test_every_truncated_and_extended_stream_is_refused() -> None:
    """Cut at its end, where reading begins; cut at the other, codes of -127 may stand for what is missing."""
    for size in range(len(PACKED)):
        assert refused_or_sound(PACKED[:size]), size
        refused_or_sound(PACKED[-size:])
    for more in (b"\0", bytes(4), b"\xff" * 4, b"\1\0\0\0", bytes(4000), PACKED):
        assert refused_or_sound(PACKED + more)
        assert refused_or_sound(more + PACKED)


def test_every_flipped_bit_is_refused_or_gives_codes_that_can_be() -> None:
    refused = 0
    for bit in range(8 * len(PACKED)):
        damaged = bytearray(PACKED)
        damaged[bit // 8] ^= 1 << bit % 8
        refused += refused_or_sound(bytes(damaged))
    assert refused > 0


@settings(max_examples=500, deadline=None)
@given(
    noise=st.binary(max_size=200) | st.binary(max_size=50).map(lambda words: words * 4),
    samples=st.integers(0, 4),
    blocks=st.integers(1, 4),
    side=st.integers(1, 30),
)
def test_noise_is_refused_or_gives_codes_that_can_be(noise: bytes, samples: int, blocks: int, side: int) -> None:
    refused_or_sound(noise, samples, blocks, blocks * side)


@settings(max_examples=200, deadline=None)
@given(coded=any_codes(), data=st.data())
def test_a_stream_for_other_sizes_is_refused_or_gives_codes_that_can_be(
    coded: EncodedSamples, data: st.DataObject
) -> None:
    samples, blocks = coded.exponents_BK.shape
    asked = data.draw(st.tuples(st.integers(0, 6), st.integers(1, 6), st.integers(1, 6)))
    assume(asked != (samples, blocks, coded.codes_BV.shape[1] // blocks))
    refused_or_sound(Q6.pack(coded), asked[0], asked[1], asked[1] * asked[2])


def test_no_bytes_are_no_samples_and_no_samples_no_bytes() -> None:
    assert Q6.pack(as_coded(np.empty((0, 4, 20)))) == b""
    assert not refused_or_sound(b"", samples=0)
    assert refused_or_sound(b"")
    for something in (b"\1\0\0\0", PACKED):
        assert refused_or_sound(something, samples=0)


def test_a_few_bytes_that_stand_for_many_values_take_memory_for_those_only() -> None:
    """Packed zeros: no more than 16 bytes a value while they are read."""
    program = """
import resource, sys
from mple.wire.codecs import codec_named
codec, packed = codec_named("q6"), sys.stdin.buffer.read()
codec.unpack(codec.pack(codec.unpack(b"", samples=0, blocks=16, values=3072)), samples=0, blocks=16, values=3072)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert not codec.unpack(packed, samples=1024, blocks=16, values=3072).codes_BV.any()
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""
    packed = Q6.pack(as_coded(np.zeros((1024, 16, 192))))
    assert len(packed) < 10_000
    ran = subprocess.run([sys.executable, "-c", program], input=packed, check=True, capture_output=True, timeout=60)
    assert int(ran.stdout) < 16 * 1024 * 3072
