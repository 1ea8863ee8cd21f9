"""What codecs say of themselves: bits as the textbook and the packed bytes have them, rounding as what comes back."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mple.morph import MorphKey
from mple.morph.morpher import Morpher
from mple.plan import MorphSettings
from mple.wire.codecs import codec_named
from mple.wire.names import CODECS, VALUE_CODECS
from tests.support.small_plan import small_plan


def bits(codec: str, *rms: float) -> float:
    return codec_named(codec).bits_a_value(np.array(rms), 192)


def test_every_name_of_the_contract_is_a_codec() -> None:
    assert VALUE_CODECS == ("f32", "f16", "q8", "q7", "q6", "q5", "q4")
    assert CODECS == (*VALUE_CODECS, "k8", "k7.5", "k7", "k6.5", "k6", "k5.5", "k5", "k4.5", "k4", "k3.5", "k3")
    for name in CODECS:
        assert codec_named(name).name == name


def test_floats_have_a_fixed_size_and_round_nothing() -> None:
    for name, size in (("f32", 32), ("f16", 16)):
        assert bits(name, 0.5) == bits(name, 0.0, 40.0) == size
        assert codec_named(name).rounding_deviation == 0
        assert codec_named(name).rounding_steps(np.array([0.1, 100.0])).tolist() == [0, 0]


@pytest.mark.parametrize("rms", [0.5, 1.0])
def test_many_steps_wide_it_is_the_formula_of_the_textbook(rms: float) -> None:
    """h = log2(sigma sqrt(2 pi e)) less log2 of the step, 1/8 for q6."""
    assert bits("q6", *[rms] * 5) == pytest.approx(math.log2(rms * 8 * math.sqrt(2 * math.pi * math.e)), abs=0.01)


def test_a_black_block_costs_nothing_and_counts_in_the_mean() -> None:
    assert bits("q8", 0.0) == pytest.approx(0.0, abs=1e-6)
    assert bits("q8", 0.5, 0.0) == pytest.approx(bits("q8", 0.5) / 2)


def test_beyond_the_range_of_the_codes_steps_double() -> None:
    """What an exponent takes away of the bits: a block of twice the range costs the same."""
    assert bits("q8", 40.0) == pytest.approx(bits("q8", 80.0))


@pytest.mark.parametrize("codec", ["q8", "q6", "q4"])
def test_the_codec_takes_as_many_bits_as_predicted(codec: str) -> None:
    """Pictures of smooth patches, morphed and packed; exponents and classes take the difference."""
    patches = np.random.default_rng(1).normal(size=(48, 3, 4, 4)).cumsum(2)
    between = np.clip((np.arange(32) + 0.5) / 8 - 0.5, 0, 3)
    low, share = between.astype(int).clip(max=2), between - between.astype(int).clip(max=2)
    linear = np.zeros((32, 4))
    linear[np.arange(32), low], linear[np.arange(32), low + 1] = 1 - share, share
    x_BCHW = (0.3 * linear @ patches @ linear.T).astype(np.float32)
    scheme = MorphSettings().scheme()
    plan = small_plan(morph=MorphSettings(), channels=3, side_px=32)
    t_BKQ = Morpher(scheme, plan.image, MorphKey(bytes(32)), session=b"s", key_epoch=1).morph(x_BCHW)
    coder = codec_named(codec)
    measured = 8 * len(coder.pack(coder.encode(t_BKQ))) / t_BKQ.size
    rms_R = np.sqrt(np.square(t_BKQ).mean(2)).ravel().astype(np.float64)
    assert coder.bits_a_value(rms_R, plan.geometry.core_side) == pytest.approx(measured, abs=0.08)


def test_a_forecast_without_a_basis_is_that_of_a_falling_spectrum() -> None:
    """Worked out coefficient by coefficient: mean over j of the entropy of a rounded Gaussian of variance ~ j^-2.2."""
    side, step = 64, 0.25
    share = np.arange(1, side + 1) ** -2.2
    deviations = 1.3 * np.sqrt(side * share / share.sum()) / step
    entropy = 0.0
    for deviation in deviations.tolist():
        edges = [math.erf((code + 0.5) / (deviation * math.sqrt(2))) / 2 for code in range(-300, 300)]
        entropy -= sum(mass * math.log2(mass) for mass in np.diff(edges).tolist() if mass > 0)
    forecast = codec_named("k5").bits_a_value(np.array([1.3, 1.3]), side)
    assert forecast == pytest.approx(entropy / side, rel=0.01)
    assert codec_named("k5").bits_a_value(np.array([0.0]), side) == pytest.approx(0, abs=1e-3)
    assert codec_named("k5").rounding_deviation == pytest.approx(step / 12**0.5)
    assert codec_named("k5").rounding_steps(np.array([0.1, 9.0])).tolist() == [step, step]


@pytest.mark.parametrize("codec", [name for name in CODECS if name.startswith("q")])
@pytest.mark.parametrize("scale", [0.3, 30.0])
def test_rounding_is_as_the_codec_says(codec: str, scale: float) -> None:
    """Every value is a multiple of its block's step, worked out from the block alone; the error is white."""
    coder = codec_named(codec)
    t_BKQ = (scale * np.random.default_rng(1).normal(size=(64, 4, 192))).astype(np.float32)
    back_BKQ = coder.decode(coder.encode(t_BKQ), 4)
    steps_BK1 = coder.rounding_steps(np.abs(back_BKQ).max(2).astype(np.float64))[:, :, None]
    multiples_BKQ = back_BKQ / steps_BK1
    assert np.array_equal(multiples_BKQ, multiples_BKQ.round())
    error = (back_BKQ - t_BKQ) / steps_BK1
    assert float(error.std()) == pytest.approx(12**-0.5, rel=0.02)
    if scale < 1:
        assert float(steps_BK1.max()) / 12**0.5 == pytest.approx(coder.rounding_deviation)
