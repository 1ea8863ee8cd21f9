"""Predicted bytes, against counts by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.predicted_bytes import predict_bytes
from mple.plan import Custody, MorphSettings, TrainingSettings, WireSettings
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
