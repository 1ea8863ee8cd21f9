"""How trainings on coded pictures are summed up, without training anything."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.coded_training import Recipe, _received
from benchmarks.rate_accuracy import Training, cheapest, markdown, summed_up
from mple.data.normalise import normalise
from mple.data.settings import NormalisationSettings


def trained(codec: str, bits: float, *accuracies: float) -> list[Training]:
    recipe = Recipe(epochs=1, width=0.25)
    rest = {"codec": codec, "layer": "int8", "recipe": recipe, "pictures": 10, "losses": (1.0,)}
    return [
        Training(**rest, seed=seed, bits_per_value=bits, test_accuracy=accuracy)  # type: ignore[arg-type]
        for seed, accuracy in enumerate(accuracies)
    ]


def test_codecs_are_compared_seed_by_seed_and_none_is_chosen_beyond_one_that_loses_too_much() -> None:
    trainings = [
        *trained("f32", 32.0, 0.80, 0.90),
        *trained("k6", 2.4, 0.80, 0.896),
        *trained("k5", 1.5, 0.79, 0.90),
        *trained("k4", 0.9, 0.80, 0.90),
    ]
    rows = summed_up(trainings)
    by_name = {row.codec: row for row in rows}
    assert by_name["k6"].points_against_f32 == pytest.approx(-0.2)
    assert by_name["k6"].points_deviation == pytest.approx(0.2)  # of 0 and -0.4: 0.2828 / sqrt(2)
    assert by_name["k5"].points_against_f32 == pytest.approx(-0.5)
    assert cheapest(rows, "k") == by_name["k6"]  # k4 did well by chance: k5, which is finer, did not
    assert cheapest(rows, "JPEG") is None
    head, rule, *lines = [line for line in markdown(rows).splitlines() if line.startswith("|")]
    assert {line.count("|") for line in (head, rule, *lines)} == {8}


def test_pictures_of_files_are_trained_on_as_they_come_out_of_them() -> None:
    pictures = np.random.default_rng(2).integers(0, 256, (6, 1, 16, 16), dtype=np.uint8)
    by = NormalisationSettings()
    train, test, bits = _received("JPEG 50", pictures[:4], pictures[4:], by, None)
    assert (train.shape, test.shape) == ((4, 1, 16, 16), (2, 1, 16, 16))
    exact = normalise(pictures[:4], by)
    assert 0.1 < np.abs(train - exact).mean() < 1.0
    assert 8 * 100 / 256 < bits < 8 * 1000 / 256  # a file with its header, and not more than a kilobyte
    codes, _, _ = _received("k8", pictures[:4], pictures[4:], by, None)
    np.testing.assert_allclose(
        codes, exact, atol=2.0 ** (3 - 8) * 64**0.5 / 2
    )  # half a step, of 64 coefficients at most
