"""What the end of a run tells of a delivered network: thresholds for `model.json`, figures for its card."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from mple.delivered.card import Figure, model_card
from mple.delivered.folder import CARD, RECORD, DeliveredNetwork
from mple.disk.json_records import write_record
from mple.disk.whole_files import write_whole
from mple.plan import RunPlan
from mple.records.site_scores import MetricScore, SiteScores

_BY_CLASS = ("auroc", "sensitivity", "specificity", "sensitivity_at_threshold", "specificity_at_threshold")
_MOST_CLASSES = 20
"""With more, the card has no figures of single classes: they are in the file of scores."""


def add_scores(folder: Path, scores: SiteScores, plan: RunPlan) -> bool:
    """Complete a delivered network by the site's file of scores; once, as people may write into the card. Says whether
    it did: a network of another run or epoch, and one that is complete, are left alone.

    Raises ValueError: there is no network, or its record is damaged; OSError: the disk refused.
    """
    network = DeliveredNetwork.at(folder)
    record = network.record
    if record.scored or (record.about.run_id, record.about.epoch) != (scores.run_id, scores.epoch):
        return False
    known = {name: one for name, one in scores.thresholds.items() if one is not None}
    record = replace(record, thresholds=known, scored=True)
    write_whole(network.folder / CARD, model_card(record, plan, [*card_figures(scores)]).encode())
    write_record(network.folder / RECORD, record)
    return True


def card_figures(scores: SiteScores) -> Iterator[Figure]:
    """Test before validation, all sites before this one; of test pictures also by class, on their metric."""
    for split, own, pooled in (
        ("test", scores.test, scores.pooled_test), ("val", scores.val, scores.pooled_val),
    ):  # fmt: skip
        yield from _figures(split, "all sites", pooled, len(scores.classes))
        if own is not None:
            yield from _figures(split, scores.site, own.metrics, len(scores.classes))


def _figures(split: str, whose: str, metrics: Mapping[str, MetricScore], classes: int) -> Iterator[Figure]:
    for name, one in metrics.items():
        words = name.replace("_", " ")
        if one.value is None:
            continue
        low, high = one.interval or (None, None)
        yield Figure(name=words, split=split, whose=whose, value=one.value, low=low, high=high)
        if split == "val" or name not in _BY_CLASS or classes > _MOST_CLASSES:
            continue
        for label, value in one.by_class.items():
            if value is not None:
                low, high = one.intervals.get(label) or (None, None)
                yield Figure(name=words, of_class=label, split=split, whose=whose, value=value, low=low, high=high)
