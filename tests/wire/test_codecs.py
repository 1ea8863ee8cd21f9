"""Codecs: what all of them promise, golden bytes of the floating ones, and names that plans may use."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from mple.v1 import common_pb2
from mple.wire.codec import CodeError, EncodedSamples
from mple.wire.codecs import codec_named
from mple.wire.names import CODECS, VALUE_CODECS

each_codec = pytest.mark.parametrize("name", VALUE_CODECS)
T_BKQ = np.array([[[0.0, 1.0], [-2.5, 0.3]], [[0.0, 0.0], [0.0, 0.0]], [[-6e-8, 1e-3], [65504.0, 8.0]]], np.float32)
GOLDEN = {
    "f32": "000000000000803f000020c09a99993e" + "00" * 16 + "59d980b36f12833a00e07f4700000041",
    "f16": "0000003c00c1cd34" + "00" * 8 + "01801914ff7b0048",
}
"""Codes and packed bytes alike, hexadecimal."""
BLOCKS, VALUES = 3, 12


def samples(largest: float) -> st.SearchStrategy[NDArray[np.float32]]:
    """A few samples of a few blocks of a few values, whose magnitudes may differ by any factor."""
    bound = float(np.float32(largest))
    shapes = hnp.array_shapes(min_dims=3, max_dims=3, max_side=4)
    return hnp.arrays(np.float32, shapes, elements=st.floats(-bound, bound, width=32))


def pictures(count: int) -> NDArray[np.float32]:
    """Values as morphed pictures have them."""
    return np.random.default_rng(count).normal(size=(count, BLOCKS, VALUES // BLOCKS)).astype(np.float32)


def test_plans_name_the_codecs_that_there_are_in_their_order() -> None:
    """`mple.plan` does not import `mple.wire`: a table of names stands between them."""
    with pytest.raises(ValueError, match=f"^codec = 'q3'; choose one of {', '.join(CODECS)}$"):
        codec_named("q3")
    for name in CODECS:
        codec = codec_named(name)
        assert (codec.name, codec.wire_id) == (name, common_pb2.Codec.Value(f"CODEC_{name.upper().replace('.', '_')}"))
    assert len(CODECS) == len(common_pb2.Codec.values()) - 1, "all but CODEC_UNSPECIFIED"


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_bytes(name: str) -> None:
    codec = codec_named(name)
    coded = codec.encode(T_BKQ)
    assert coded.codes_BV.tobytes().hex() == codec.pack(coded).hex() == GOLDEN[name]
    assert (coded.codes_BV.dtype, coded.exponents_BK.shape) == (codec.code_dtype, (3, 0))


@each_codec
def test_the_bytes_of_a_kept_sample(name: str) -> None:
    codec, size = codec_named(name), {"f32": 4 * 12, "f16": 2 * 12}.get(name, 12 + 3)
    coded = codec.encode(pictures(5))
    assert codec.sample_bytes(blocks=BLOCKS, values=VALUES) == size
    assert coded.exponents_BK.nbytes + coded.codes_BV.nbytes == 5 * size


@given(samples(3.4e38))
def test_f32_loses_nothing(values: NDArray[np.float32]) -> None:
    codec = codec_named("f32")
    back = codec.decode(codec.encode(values), values.shape[1])
    assert back.tobytes() == values.tobytes()


@given(samples(65504.0))
def test_f16_error(values: NDArray[np.float32]) -> None:
    codec = codec_named("f16")
    back = codec.decode(codec.encode(values), values.shape[1]).astype(np.float64)
    exact = values.astype(np.float64)
    bound = np.where(np.abs(exact) >= 6.1e-5, np.abs(exact) * 2.0**-11, 3e-8)
    assert (np.abs(back - exact) <= bound).all()


@each_codec
@given(values=samples(100.0))
def test_samples_may_be_regrouped_without_another_coding(name: str, values: NDArray[np.float32]) -> None:
    """A sample's codes and exponents are the same whatever it is coded and sent with."""
    codec, (count, blocks, side) = codec_named(name), values.shape
    chosen = np.random.default_rng(count).permutation(count)
    together, apart = codec.encode(values), codec.encode(values[chosen])
    regrouped = EncodedSamples(together.codes_BV[chosen], together.exponents_BK[chosen])
    assert regrouped.codes_BV.tobytes() == apart.codes_BV.tobytes()
    assert regrouped.exponents_BK.tobytes() == apart.exponents_BK.tobytes()
    assert codec.pack(regrouped) == codec.pack(apart)
    packed_alone = codec.pack(codec.encode(values[:1]))
    first = codec.unpack(packed_alone, samples=1, blocks=blocks, values=blocks * side)
    assert first.codes_BV.tobytes() == together.codes_BV[:1].tobytes()


@each_codec
@pytest.mark.parametrize("count", [0, 1, 5])
def test_what_is_packed_comes_back(name: str, count: int) -> None:
    codec = codec_named(name)
    coded = codec.encode(pictures(count))
    back = codec.unpack(codec.pack(coded), samples=count, blocks=BLOCKS, values=VALUES)
    for sent, received in ((coded.codes_BV, back.codes_BV), (coded.exponents_BK, back.exponents_BK)):
        assert (received.dtype, received.shape) == (sent.dtype, sent.shape)
        assert received.tobytes() == sent.tobytes()


@each_codec
def test_another_number_of_samples_is_refused(name: str) -> None:
    codec = codec_named(name)
    packed = codec.pack(codec.encode(pictures(5)))
    for count in (0, 1, 4, 6, 10):
        with pytest.raises(CodeError):
            codec.unpack(packed, samples=count, blocks=BLOCKS, values=VALUES)


@each_codec
def test_decoded_values_have_memory_of_their_own(name: str) -> None:
    """Codes may be views of a message that goes away, or of memory that can't be written."""
    codec = codec_named(name)
    coded = codec.encode(np.ones((2, 1, 3), np.float32))
    frozen = np.frombuffer(coded.codes_BV.tobytes(), codec.code_dtype).reshape(2, 3)
    back = codec.decode(EncodedSamples(frozen, coded.exponents_BK), 1)
    back += 1
    assert (back.dtype, back.shape) == (np.float32, (2, 1, 3))
    np.testing.assert_allclose(codec.decode(coded, 1), np.ones((2, 1, 3), np.float32))


@each_codec
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"codec {name}: .* NaN"):
        codec_named(name).encode(np.array([[[1.0, 2.0]], [[value, 0.0]]], np.float32))


@pytest.mark.parametrize("value", [65520.0, -1e6])
def test_what_is_beyond_the_range_of_f16_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="beyond the codec's range"):
        codec_named("f16").encode(np.array([[[0.0, value]]], np.float32))
