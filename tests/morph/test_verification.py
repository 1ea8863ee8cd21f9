"""Checks of a layer without its key: honest layers pass and agree, damaged and foreign ones are caught."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from mple.morph import PRESETS, Cores, Ensemble, ImageShape, MorphScheme, draw_order
from mple.morph.arithmetic import Floats
from mple.morph.augmented import AugmentedLayer
from mple.morph.verify import (
    CONSISTENCY_TOLERANCE,
    NORM_TOLERANCE,
    consistency_response,
    expected_frobenius,
    layer_faults,
    response_deviation,
    stem_deviation,
)
from tests.support.morph_cases import KEY, OTHER_KEY, channel_order, layer, stem, tiled, unrolled

SHAPE = ImageShape(channels=3, height=13, width=16)
STEM = stem(4, 3, 3)
PROBE = b"what the coordinator drew"
SCHEMES = [
    pytest.param(PRESETS["paper"], id="unrolled"),
    pytest.param(unrolled(Cores.IDENTICAL, 6), id="unrolled, identical"),
    pytest.param(unrolled(Cores.DISTINCT, 5, 1), id="unrolled, border"),
    pytest.param(PRESETS["compact"], id="tiled, identical"),
    pytest.param(PRESETS["distinct"], id="tiled, distinct"),
    pytest.param(tiled(Cores.DISTINCT, 4), id="tiled by 4, distinct"),
]
each_scheme = pytest.mark.parametrize("scheme", SCHEMES)


def with_weight(honest: AugmentedLayer, weight: Floats) -> AugmentedLayer:
    return dataclasses.replace(honest, weight=weight)


def disagrees(first: AugmentedLayer, second: AugmentedLayer) -> bool:
    deviation = response_deviation(consistency_response(first, PROBE), consistency_response(second, PROBE))
    return not deviation <= CONSISTENCY_TOLERANCE["f32"]


@each_scheme
def test_honest_layers_have_no_faults_and_agree(scheme: MorphScheme) -> None:
    first, second = layer(scheme, SHAPE, STEM, KEY), layer(scheme, SHAPE, STEM, OTHER_KEY)
    assert np.linalg.norm(first.weight - second.weight) / np.linalg.norm(first.weight) > 0.5
    for honest in (first, second):
        assert layer_faults(honest, STEM) == []
        norm = float(np.linalg.norm(honest.weight.astype(np.float64)))
        assert norm == pytest.approx(expected_frobenius(scheme, SHAPE, STEM), rel=1e-6)
    responses = [consistency_response(honest, PROBE) for honest in (first, second)]
    assert response_deviation(*responses) < CONSISTENCY_TOLERANCE["f32"] / 20
    assert response_deviation(responses[0], responses[0]) == 0


@each_scheme
def test_a_probe_of_its_own_gives_another_response(scheme: MorphScheme) -> None:
    honest = layer(scheme, SHAPE, STEM)
    first, second = (consistency_response(honest, probe) for probe in (PROBE, b"another"))
    assert response_deviation(first, second) > 0.5


@each_scheme
def test_another_stem_is_caught(scheme: MorphScheme) -> None:
    """Even one of the same norm."""
    wrong = stem(4, 3, 3, seed=12)
    assert layer_faults(layer(scheme, SHAPE, wrong * 1.01, OTHER_KEY), wrong) != []
    mirrored = STEM[:, :, ::-1]
    assert disagrees(layer(scheme, SHAPE, STEM), layer(scheme, SHAPE, mirrored, OTHER_KEY))


@each_scheme
def test_another_channel_order_is_caught(scheme: MorphScheme) -> None:
    swapped = channel_order(4).copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    wrong = layer(scheme, SHAPE, STEM, OTHER_KEY, order=swapped)
    assert layer_faults(wrong, STEM) == []
    assert disagrees(layer(scheme, SHAPE, STEM), wrong)


@each_scheme
def test_a_layer_that_is_partly_of_another_key_is_caught(scheme: MorphScheme) -> None:
    """Half of the rows of a core are another key's, so that the core is orthogonal no more."""
    honest, other = layer(scheme, SHAPE, STEM), layer(scheme, SHAPE, STEM, OTHER_KEY)
    weight = honest.weight.copy()
    rows = 1 if weight.ndim == 3 else 0
    some = (slice(None),) * rows + (slice(weight.shape[rows] // 4 + 1),)
    weight[some] = other.weight[some]
    assert disagrees(other, with_weight(honest, weight))


Damage = Callable[[Floats], Floats]


def one_value(value: float) -> Damage:
    def damage(weight: Floats) -> Floats:
        damaged = weight.copy()
        damaged.reshape(-1)[damaged.size // 2] = value
        return damaged

    return damage


@each_scheme
@pytest.mark.parametrize(
    "damage", [one_value(float("nan")), one_value(float("inf")), one_value(float("-inf"))], ids=["nan", "inf", "-inf"]
)
def test_values_that_are_not_finite_are_caught(scheme: MorphScheme, damage: Damage) -> None:
    honest = layer(scheme, SHAPE, STEM)
    wrong = with_weight(honest, damage(honest.weight))
    assert layer_faults(wrong, STEM) == ["the layer holds NaN or infinity"]
    assert disagrees(honest, wrong)


@each_scheme
@pytest.mark.parametrize("factor", [0.0, 0.5, 1 - 3 * NORM_TOLERANCE["f32"], 1 + 3 * NORM_TOLERANCE["f32"], 1e30])
def test_scaled_layers_are_caught(scheme: MorphScheme, factor: float) -> None:
    honest = layer(scheme, SHAPE, STEM)
    wrong = with_weight(honest, honest.weight * np.float32(factor))
    (fault,) = layer_faults(wrong, STEM)
    assert fault.startswith("the layer's norm is")
    assert disagrees(honest, wrong)


@each_scheme
def test_a_negated_layer_passes_since_it_fits_a_key(
    scheme: MorphScheme,
) -> None:
    """-M is as orthogonal as M: without the key nobody can tell, and nothing is promised."""
    honest = layer(scheme, SHAPE, STEM)
    negated = with_weight(honest, -honest.weight)
    assert layer_faults(negated, STEM) == []
    assert not disagrees(honest, negated)


@each_scheme
def test_a_stem_of_zeros_is_no_reason_to_divide_by_zero(scheme: MorphScheme) -> None:
    nothing = np.zeros_like(STEM)
    silent = layer(scheme, SHAPE, nothing)
    assert layer_faults(silent, nothing) == []
    assert layer_faults(layer(scheme, SHAPE, STEM), nothing) != []
    assert not disagrees(silent, layer(scheme, SHAPE, nothing, OTHER_KEY))


def test_uniform_layers_are_checked_for_finiteness_only() -> None:
    honest = layer(tiled(Cores.IDENTICAL, 8, Ensemble.UNIFORM), SHAPE, STEM)
    assert layer_faults(with_weight(honest, honest.weight * 2), STEM) == []
    assert layer_faults(with_weight(honest, one_value(float("nan"))(honest.weight)), STEM) != []


def test_responses_of_other_schemes_cannot_be_compared() -> None:
    first, second = (consistency_response(layer(PRESETS[name], SHAPE, STEM), PROBE) for name in ("compact", "distinct"))
    with pytest.raises(ValueError, match="can't be compared"):
        response_deviation(first, second)


def test_layers_of_another_shape_are_refused() -> None:
    honest = layer(PRESETS["compact"], SHAPE, STEM)
    with pytest.raises(ValueError, match=r"layer weight of shape \(192, 4, 10, 9\), needs \(192, 4, 10, 10\)"):
        with_weight(honest, honest.weight[..., :9])


# Without another site's layer.


@each_scheme
def test_an_honest_layer_comes_from_the_stem_whatever_its_key_and_order(scheme: MorphScheme) -> None:
    for key in (KEY, OTHER_KEY):
        for seed in (1, 2):
            honest = layer(scheme, SHAPE, STEM, key, order=draw_order(b"secret", str(seed), 4))
            assert stem_deviation(honest, STEM, PROBE) < CONSISTENCY_TOLERANCE["f32"] / 20


@each_scheme
@pytest.mark.parametrize("how", ["of another stem", "mixed", "moved between filters", "random", "turned by one value"])
def test_a_layer_that_no_key_makes_of_the_stem_shows_by_itself(scheme: MorphScheme, how: str) -> None:
    honest = layer(scheme, SHAPE, STEM, KEY)
    weight = honest.weight
    if how == "of another stem":
        other = stem(4, 3, 3, seed=9)
        other *= np.linalg.norm(STEM) / np.linalg.norm(other)
        weight = layer(scheme, SHAPE, other, KEY).weight
    elif how == "mixed":  # a reflection that keeps the filters' sum, the norm, and the sum of squares at each position
        n_F = np.array([1, 1, -2, 0], np.float32) / np.float32(6**0.5)
        mirrored = STEM - 2 * n_F[:, None, None, None] * np.einsum("f,fcpq->cpq", n_F, STEM)
        weight = layer(scheme, SHAPE, mirrored, KEY).weight
    elif how == "moved between filters":
        moved = STEM.copy()
        moved[0] += 0.1
        moved[1] -= 0.1
        weight = layer(scheme, SHAPE, moved, KEY).weight
    elif how == "random":
        weight = np.random.default_rng(4).normal(size=weight.shape).astype(np.float32)
        weight *= np.linalg.norm(honest.weight) / np.linalg.norm(weight)
    else:
        weight = weight.copy()
        weight.reshape(-1)[np.abs(weight).argmax()] *= -1
    deviation = stem_deviation(with_weight(honest, weight), STEM, PROBE)
    assert not deviation <= CONSISTENCY_TOLERANCE["f32"]
