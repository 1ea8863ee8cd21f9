"""Codecs: golden bytes and the error bounds that their table states."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from mple.wire import EncodedSamples, codec_named

NAMES = ("f32", "f16", "q8")
T_BV = torch.tensor([[0.0, 1.0, -2.5, 0.3], [0.0, 0.0, 0.0, 0.0], [-6e-8, 1e-3, 65504.0, 8.0]])
GOLDEN = {
    "f32": ("", "000000000000803f000020c09a99993e" + "00" * 16 + "59d980b36f12833a00e07f4700000041"),
    "f16": ("", "0000003c00c1cd34" + "00" * 8 + "01801914ff7b0048"),
    "q8": ("8542a13c0000803fe4f10044", "0033810f" + "00" * 4 + "00007f00"),
}
"""Scales and codes, hexadecimal. q8: 2.5 / 127 = 0x3ca14285, of which 1 is 50.8 and 0.3 is 15.2;
65504 / 127 = 0x4400f1e4."""


def samples(largest: float) -> st.SearchStrategy[NDArray[np.float32]]:
    """A few samples of a few values, whose magnitudes may differ by any factor."""
    bound = float(np.float32(largest))
    return hnp.arrays(
        np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=5), elements=st.floats(-bound, bound, width=32)
    )


@pytest.mark.parametrize("name", NAMES)
def test_golden_bytes(name: str) -> None:
    coded = codec_named(name).encode(T_BV)
    assert (coded.scales_B.tobytes().hex(), coded.codes_BV.tobytes().hex()) == GOLDEN[name]
    assert coded.codes_BV.dtype == codec_named(name).code_dtype


@pytest.mark.parametrize(("name", "size"), [("f32", 4 * 9), ("f16", 2 * 9), ("q8", 9 + 4)])
def test_the_bytes_of_a_sample(name: str, size: int) -> None:
    codec = codec_named(name)
    coded = codec.encode(torch.ones(3, 9))
    assert codec.sample_bytes(9) == size
    assert coded.scales_B.nbytes + coded.codes_BV.nbytes == 3 * size


@given(samples(3.4e38))
def test_f32_loses_nothing(values: NDArray[np.float32]) -> None:
    codec = codec_named("f32")
    back = codec.decode(codec.encode(torch.from_numpy(values.copy())))
    assert back.numpy().tobytes() == values.tobytes()


@given(samples(65504.0))
def test_f16_error(values: NDArray[np.float32]) -> None:
    codec = codec_named("f16")
    back = codec.decode(codec.encode(torch.from_numpy(values.copy()))).double().numpy()
    exact = values.astype(np.float64)
    bound = np.where(np.abs(exact) >= 6.1e-5, np.abs(exact) * 2.0**-11, 3e-8)
    assert (np.abs(back - exact) <= bound).all()


@settings(max_examples=300)
@given(samples(1.6e38) | samples(3.0) | samples(1e-37))
def test_q8_error(values: NDArray[np.float32]) -> None:
    """Half a step; the rounding of two float32 operations on values up to 127 steps adds less than 2^-15 of one."""
    codec = codec_named("q8")
    coded = codec.encode(torch.from_numpy(values.copy()))
    exact = values.astype(np.float64)
    step_B1 = np.maximum(np.abs(exact).max(axis=1, keepdims=True) / 127, 1e-30) * (1 + 2**-22)
    assert (np.abs(codec.decode(coded).double().numpy() - exact) <= step_B1 * (0.5 + 2**-15)).all()
    assert np.abs(coded.codes_BV.astype(int)).max() <= 127


@pytest.mark.parametrize("name", NAMES)
@given(values=samples(100.0))
def test_samples_may_be_regrouped_without_another_coding(name: str, values: NDArray[np.float32]) -> None:
    codec = codec_named(name)
    chosen = np.random.default_rng(len(values)).permutation(len(values))
    together, apart = codec.encode(torch.from_numpy(values.copy())), codec.encode(torch.from_numpy(values[chosen]))
    assert together.codes_BV[chosen].tobytes() == apart.codes_BV.tobytes()
    if codec.scaled:
        assert together.scales_B[chosen].tobytes() == apart.scales_B.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_decoded_values_have_memory_of_their_own(name: str) -> None:
    """Codes may be views of a message that goes away, or of memory that can't be written."""
    codec = codec_named(name)
    coded = codec.encode(torch.ones(2, 3))
    frozen = np.frombuffer(coded.codes_BV.tobytes(), codec.code_dtype).reshape(2, 3)
    back = codec.decode(EncodedSamples(coded.scales_B, frozen))
    back += 1
    assert back.dtype == torch.float32
    torch.testing.assert_close(codec.decode(coded), torch.ones(2, 3))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"codec {name}: .* NaN"):
        codec_named(name).encode(torch.tensor([[1.0, 2.0], [value, 0.0]]))


@pytest.mark.parametrize(("name", "value"), [("f16", 65520.0), ("f16", -1e6), ("q8", 3.4028234e38), ("q8", -1.8e38)])
def test_what_is_beyond_the_range_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match="beyond the codec's range"):
        codec_named(name).encode(torch.tensor([[0.0, value]]))


def test_an_unknown_codec_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="codec = 'q4'; choose one of f32, f16, q8"):
        codec_named("q4")
