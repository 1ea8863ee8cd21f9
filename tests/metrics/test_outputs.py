"""Log-odds and probabilities against their definitions, and the grid of scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.special import logsumexp

from mple.metrics import Outputs, probabilities
from mple.metrics.outputs import scores_of
from mple.model.settings import TaskKind


@given(hnp.arrays(np.float32, (4, 5), elements=st.floats(-2e4, 2e4, width=32)))
def test_scores_are_log_odds_against_the_rest(logits: NDArray[np.float32]) -> None:
    logits_NC = logits.astype(np.float64)
    found = scores_of(logits_NC, Outputs(5))
    for place in range(5):
        rest = logsumexp(np.delete(logits_NC, place, axis=1), axis=1)
        np.testing.assert_allclose(found[:, place], logits_NC[:, place] - rest, rtol=1e-9, atol=1e-9)


def test_probabilities_add_up_and_never_overflow() -> None:
    chances = probabilities(np.array([[1000.0, 1000.0, -1000.0], [math.log(1), math.log(2), math.log(5)]]), Outputs(3))
    np.testing.assert_allclose(chances, [[0.5, 0.5, 0.0], [1 / 8, 2 / 8, 5 / 8]], atol=1e-15)
    chances = probabilities(np.array([[-1e30, 0.0, math.log(3), 1e30]]), Outputs(4, TaskKind.LABELS))
    np.testing.assert_allclose(chances, [[0.0, 0.5, 0.75, 1.0]], atol=1e-15)


@pytest.mark.parametrize("classes", [2, 10, 100, 1000])
def test_the_grid_is_fine_where_little_is_known_and_has_an_edge_at_one_half(classes: int) -> None:
    outputs = Outputs(classes)
    edges = outputs.edges
    assert len(edges) == outputs.bins - 1
    assert edges[outputs.half] == 0.0
    assert (np.diff(edges) > 0).all()
    assert abs(edges[np.diff(edges).argmin()] + math.log(classes - 1)) < 0.1, "where all chances are equal"
    assert np.diff(edges).min() == pytest.approx(math.asinh(4000) / 2 / outputs.bins, rel=0.1)
    assert edges[-1] > 800
    assert edges[0] < -800
