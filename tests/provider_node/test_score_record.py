"""A site's file of scores, and the logits that it is made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, roc_auc_score

from mple.disk.json_records import read_record, write_record
from mple.metrics import Outputs, Tally, reordered, tallies, thresholds, values
from mple.metrics.exact import exact_values
from mple.metrics.messages import to_messages
from mple.metrics.outputs import scores_of
from mple.records.site_scores import Figures, SiteScores
from mple.v1 import common_pb2, coordinator_pb2
from provider_node.feeding.kept_logits import KeptLogits
from provider_node.feeding.score_record import site_scores
from tests.support.judged import drawn
from tests.support.small_plan import CLASSES, TEST, VAL, small_plan

OUTPUTS = Outputs(3)
ORDER = np.array([2, 0, 1])
PLAN = small_plan(sizes={"north": (5, 80), "south": (4, 40)}, vals={"north": 60, "south": 30})


def wire(told: dict[str, Tally]) -> dict[str, common_pb2.Tally]:
    return to_messages(reordered(told, ORDER, OUTPUTS))


VAL_OF_ALL, TEST_OF_ALL = drawn(OUTPUTS, 90, seed=2), drawn(OUTPUTS, 120, seed=3)
POOLED_VAL, POOLED_TEST = tallies(*VAL_OF_ALL, OUTPUTS), tallies(*TEST_OF_ALL, OUTPUTS)
SCORED = coordinator_pb2.NetworkScored(epoch=2, val_tallies=wire(POOLED_VAL), test_tallies=wire(POOLED_TEST))
TEST_HERE = (TEST_OF_ALL[0][:80].astype(np.float32), TEST_OF_ALL[1][:80])


def test_the_file_has_exact_values_by_name_and_what_all_sites_come_to(tmp_path: Path) -> None:
    found = site_scores(PLAN, "north", SCORED, ORDER, val=None, test=TEST_HERE)
    at = thresholds(POOLED_VAL, OUTPUTS)
    exact = exact_values(TEST_HERE[0].astype(np.float64), TEST_HERE[1], OUTPUTS, OUTPUTS.edges[at])
    assert found.test is not None
    assert found.val is None
    for name, metric in found.test.metrics.items():
        assert (metric.value, metric.interval) == (exact[name].value, exact[name].interval)
        assert tuple(metric.by_class.values()) == (exact[name].by_class or ())
        assert set(metric.by_class) in (set(), set(CLASSES))
    assert found.test.positives == dict(zip(CLASSES, np.bincount(TEST_HERE[1]).tolist(), strict=True))
    figures = found.test.figures
    assert sum(map(sum, figures.confusion)) == sum(one.count for one in figures.calibration) == 80
    assert {name: one.value for name, one in found.pooled_test.items()} == values(POOLED_TEST, OUTPUTS, at)
    assert {name: one.value for name, one in found.pooled_val.items()} == values(POOLED_VAL, OUTPUTS, at)
    said = confusion_matrix(TEST_OF_ALL[1], TEST_OF_ALL[0].argmax(axis=1))
    assert found.pooled_test_figures.confusion == tuple(map(tuple, said.tolist()))
    assert sum(one.count for one in found.pooled_val_figures.calibration) == 90
    for place, name in enumerate(CLASSES):
        area = np.trapezoid(*np.array(found.pooled_test_figures.curves[name].roc).T[::-1])
        exact_area = roc_auc_score(TEST_OF_ALL[1] == place, scores_of(TEST_OF_ALL[0], OUTPUTS)[:, place])
        assert area == pytest.approx(exact_area, abs=2e-3)
    assert [one and one.log_odds for one in found.thresholds.values()] == OUTPUTS.edges[at].tolist()
    for one in found.thresholds.values():
        assert one is not None
        assert np.log(one.chance / (1 - one.chance)) == pytest.approx(one.log_odds)
    write_record(tmp_path / "scores.json", found)
    assert read_record(SiteScores, tmp_path / "scores.json") == found


def test_without_validation_there_are_no_thresholds() -> None:
    scored = coordinator_pb2.NetworkScored(epoch=2, test_tallies=wire(POOLED_TEST))
    found = site_scores(PLAN, "north", scored, ORDER, val=None, test=TEST_HERE)
    assert set(found.thresholds.values()) == {None}
    assert found.test is not None
    assert "sensitivity_at_threshold" not in found.test.metrics
    assert "sensitivity" in found.pooled_test
    assert found.pooled_val_figures == Figures()


def test_sums_of_sites_that_withhold_theirs_are_fewer_and_never_more() -> None:
    part = tallies(TEST_OF_ALL[0][:50], TEST_OF_ALL[1][:50], OUTPUTS)
    fewer = coordinator_pb2.NetworkScored(epoch=2, test_tallies=wire(part))
    found = site_scores(PLAN, "north", fewer, ORDER, val=None, test=None)
    assert found.pooled_test["accuracy"].value == values(part, OUTPUTS)["accuracy"]
    more = coordinator_pb2.NetworkScored(epoch=2, val_tallies=wire(POOLED_TEST))
    with pytest.raises(ValueError, match="tally of"):
        site_scores(PLAN, "north", more, ORDER, val=None, test=None)
    unnamed = replace(PLAN, metrics=replace(PLAN.metrics, tallies=("counts", "loss")))
    with pytest.raises(ValueError, match="due are counts, loss"):
        site_scores(unnamed, "north", SCORED, ORDER, val=None, test=None)


def test_logits_are_kept_until_the_best_epoch_is_known(tmp_path: Path) -> None:
    kept, rows = KeptLogits(tmp_path / "scored"), np.arange(6, dtype=np.float32).reshape(2, 3)
    for epoch in (1, 2, 3):
        kept.keep(VAL, epoch, rows + epoch)
        kept.keep(TEST, epoch, rows - epoch)
    again = KeptLogits(tmp_path / "scored")
    again.keep_only(2, 2)
    assert again.read(VAL, 1, 2, 3) is None
    for epoch in (2, 3):
        np.testing.assert_array_equal(again.read(VAL, epoch, 2, 3), rows + epoch)
    assert again.read(TEST, 2, 2, 3) is None, "the test split is scored last by the network that is kept"
    np.testing.assert_array_equal(again.read(TEST, 3, 2, 3), rows - 3)
    assert again.read(TEST, 3, 4, 3) is None, "of other pictures"
    (tmp_path / "scored" / "val-3.safetensors").write_bytes(b"rubbish")
    assert again.read(VAL, 3, 2, 3) is None
    again.clear()
    assert not (tmp_path / "scored").exists()
