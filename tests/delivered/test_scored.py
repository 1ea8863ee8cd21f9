"""What a run's end tells of a delivered network: its thresholds, and the figures of its card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mple.delivered.card import model_card
from mple.delivered.folder import CARD, DeliveredNetwork, write_delivered
from mple.delivered.scored import add_scores, card_figures
from mple.records.site_scores import Figures, MetricScore, SiteScores, SplitScores, Threshold
from tests.support.delivered_record import record_of
from tests.support.trunk_in_secret_order import CLASSES, TrunkInSecretOrder

LOSS = MetricScore(value=0.75, interval=(0.5, 1.0))
AUROC = MetricScore(
    value=0.9,
    by_class=dict(zip(CLASSES, (0.8, 1.0, None, 0.9), strict=True)),
    intervals=dict(zip(CLASSES, ((0.7, 0.9), (1.0, 1.0), None, None), strict=True)),
)
HERE = SplitScores(samples=9, positives={}, negatives={}, metrics={"loss": LOSS}, draws=1000, figures=Figures())
CHOSEN = Threshold(chance=0.25, log_odds=-1.1)
SCORES = SiteScores(
    run_id="r", plan_sha256="ab", site="north", task="classes", classes=CLASSES, epoch=3,
    thresholds={name: CHOSEN if name == "cyst" else None for name in CLASSES}, val=None, test=HERE, pooled_val={},
    pooled_test={"auroc": AUROC, "f1": MetricScore(value=None)}, pooled_val_figures=Figures(),
    pooled_test_figures=Figures(),
)  # fmt: skip


def test_figures_are_of_all_sites_and_of_this_one() -> None:
    found = [
        (f"{one.name} {one.of_class}".strip(), one.split, one.whose, one.value, one.low, one.high)
        for one in card_figures(SCORES)
    ]
    assert found == [
        ("auroc", "test", "all sites", 0.9, None, None),
        ("auroc cyst", "test", "all sites", 0.8, 0.7, 0.9),
        ("auroc normal", "test", "all sites", 1.0, 1.0, 1.0),
        ("auroc unclear", "test", "all sites", 0.9, None, None),
        ("loss", "test", "north", 0.75, 0.5, 1.0),
    ]


def test_they_are_added_once(tmp_path: Path) -> None:
    made = TrunkInSecretOrder(channels=1, side=28)
    record = record_of(made.about)
    write_delivered(tmp_path, record, {CARD: model_card(record, made.plan).encode()})
    assert "None are known" in (tmp_path / CARD).read_text()
    scores = replace(SCORES, run_id=made.about.run_id)
    for other in (replace(scores, run_id="x"), replace(scores, epoch=2)):
        assert not add_scores(tmp_path, other, made.plan)
    assert add_scores(tmp_path, scores, made.plan)
    found = DeliveredNetwork.at(tmp_path)
    assert found.record == replace(record, thresholds={"cyst": CHOSEN}, scored=True)
    card = found.card()
    assert (
        "### Test pictures of north\n\n| metric | value | 95 % interval |\n| --- | --: | --- |\n| loss | 0.7500 |"
        in card
    )
    assert "| class | auroc |\n| --- | --- |\n| cyst | 0.800 (0.700 to 0.900) |\n" in card
    (tmp_path / CARD).write_text("mine")
    assert not add_scores(tmp_path, scores, made.plan)
    assert found.card() == "mine"


def test_where_there_is_no_network(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no delivered network"):
        add_scores(tmp_path, SCORES, TrunkInSecretOrder(channels=1, side=28).plan)
