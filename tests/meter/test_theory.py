"""Predicted bytes, against counts by hand, the textbook's formula, and what the codecs really make of Gaussians."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mple.meter.theory import fixed_bits, gaussian_bits, predict_bytes
from mple.morph import MorphKey
from mple.morph.morpher import Morpher
from mple.plan import Custody, MorphSettings, TrainingSettings, WireSettings
from mple.wire.codecs import codec_named
from tests.support.small_plan import small_plan

WEIGHTS, OUTPUTS = 16 * 8 * 6 * 6, 8 * 6 * 6


@pytest.mark.parametrize(
    ("layer", "layer_bytes"), [("int8", WEIGHTS + 4 * OUTPUTS), ("f16", 2 * WEIGHTS), ("f32", 4 * WEIGHTS)]
)
def test_all_that_can_be_counted(layer: str, layer_bytes: int) -> None:
    """9 training and 5 test images of 64 values; layers of 16 x 8 x 6 x 6 numbers from two sites."""
    plan = small_plan(wire=WireSettings(codec="f32", layer=layer), training=TrainingSettings(epochs=3))
    predicted = predict_bytes(plan, 32.0)
    assert predicted.data == 14 * 64 * 4
    assert predicted.layer == 2 * layer_bytes
    assert predicted.label == 9 * 2
    assert predicted.logits == 3 * 5 * 3 * 4
    assert predicted.total == predicted.data + predicted.layer + predicted.label + predicted.logits


def test_in_escrow_no_site_sends_a_layer() -> None:
    plan = replace(small_plan(), custody=Custody.ESCROW)
    assert predict_bytes(plan, 5.0).layer == 0
    assert predict_bytes(plan, 5.0).data == 14 * 64 * 5 / 8


def test_layers_of_uniform_cores_are_binary32() -> None:
    plan = small_plan(morph=MorphSettings(preset="mole"))
    assert predict_bytes(plan, 8.0).layer == 2 * 4 * (100 * 8 * 64)


def test_floats_have_a_fixed_size_and_entropy_codes_none() -> None:
    assert fixed_bits("f32") == 32
    assert fixed_bits("f16") == 16
    assert fixed_bits("q6") is None
    with pytest.raises(ValueError, match="f16"):
        gaussian_bits("f16", np.ones(3), 16)


@pytest.mark.parametrize("rms", [0.5, 1.0])
def test_many_steps_wide_it_is_the_formula_of_the_textbook(rms: float) -> None:
    """h = log2(sigma sqrt(2 pi e)) less log2 of the step, 1/8 for q6."""
    bits = gaussian_bits("q6", np.full(5, rms), 192)
    assert bits == pytest.approx(math.log2(rms * 8 * math.sqrt(2 * math.pi * math.e)), abs=0.01)


def test_a_black_block_costs_nothing_and_counts_in_the_mean() -> None:
    grey = gaussian_bits("q8", np.array([0.5]), 192)
    assert gaussian_bits("q8", np.array([0.0]), 192) == pytest.approx(0.0, abs=1e-6)
    assert gaussian_bits("q8", np.array([0.5, 0.0]), 192) == pytest.approx(grey / 2)


def test_beyond_the_range_of_the_codes_steps_double() -> None:
    """What an exponent takes away of the bits: a block of twice the range costs the same."""
    assert gaussian_bits("q8", np.array([40.0]), 192) == pytest.approx(gaussian_bits("q8", np.array([80.0]), 192))


@pytest.mark.parametrize("codec", ["q8", "q6", "q4"])
def test_the_codec_takes_as_many_bits_as_predicted(codec: str) -> None:
    """Pictures of smooth patches, morphed and packed; exponents and classes take the difference."""
    patches = torch.randn((48, 3, 4, 4), generator=torch.Generator().manual_seed(1)).cumsum(2)
    x_BCHW = torch.nn.functional.interpolate(patches, size=(32, 32), mode="bilinear").mul_(0.3)
    scheme = MorphSettings().scheme()
    plan = small_plan(morph=MorphSettings(), channels=3, side_px=32)
    t_BKQ = Morpher(scheme, plan.image, MorphKey(bytes(32)), session=b"s", key_epoch=1).morph(x_BCHW)
    coder = codec_named(codec)
    measured = 8 * len(coder.pack(coder.encode(t_BKQ))) / t_BKQ.numel()
    rms_R = t_BKQ.square().mean(2).sqrt().flatten().numpy().astype(np.float64)
    assert gaussian_bits(codec, rms_R, plan.geometry.core_side) == pytest.approx(measured, abs=0.08)
