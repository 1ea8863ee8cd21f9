"""The site's file of scores, made of kept logits, its own labels, and the sums that the run's end has told. Pure.

Legend: N samples, C classes or labels, K bins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mple.metrics import Outputs, Tally, probabilities, reordered, require_tallies, tallies, thresholds
from mple.metrics.curves import (
    binned_precision_recall_points,
    binned_roc_points,
    points_for,
    precision_recall_points,
    roc_points,
)
from mple.metrics.exact import draws_for, exact_values
from mple.metrics.messages import from_messages
from mple.metrics.outputs import scores_of, truths_of
from mple.metrics.pooled import pooled_values
from mple.metrics.tallies import counts_of
from mple.model.settings import TaskKind
from mple.per_node import Common
from mple.plan import RunPlan
from mple.records.site_scores import CalibrationBin, Curves, Figures, MetricScore, SiteScores, SplitScores, Threshold
from mple.v1 import common_pb2, coordinator_pb2

Split = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Logits (N, C) in the site's own order, and labels."""


def site_scores(
    plan: RunPlan,
    site: str,
    scored: coordinator_pb2.NetworkScored,
    label_order: NDArray[np.int64],
    *,
    val: Split | None,
    test: Split | None,
) -> SiteScores:
    """The whole file.

    Args:
        plan: The run's plan.
        site: Whose pictures they are.
        scored: What all sites' tallies come to, in the permuted order.
        label_order: The run's.
        val: Of the site's validation pictures after that epoch; None where there are none.
        test: Of its test pictures.

    Raises ValueError: the tallies can't be.
    """
    outputs, names = plan.outputs, plan.classes
    key = plan.sha256(), scored.SerializeToString(deterministic=True), label_order.tobytes()
    pooled = _pooled.get(key, lambda: _pooled_scores(plan, scored, label_order))
    edges_C = pooled.edges_C
    return SiteScores(
        run_id=plan.run_id,
        plan_sha256=plan.sha256().hex(),
        site=site,
        task=plan.task.kind,
        classes=names,
        epoch=scored.epoch,
        thresholds={name: _threshold(edge) for name, edge in zip(names, edges_C.tolist(), strict=True)},
        val=None if val is None else split_scores(*val, outputs, names, edges_C),
        test=None if test is None else split_scores(*test, outputs, names, edges_C),
        pooled_val=pooled.val,
        pooled_test=pooled.test,
        pooled_val_figures=pooled.val_figures,
        pooled_test_figures=pooled.test_figures,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pooled:
    """What is said of all sites' pictures, the same at each of them."""

    edges_C: NDArray[np.float64]
    """Thresholds in log-odds, NaN for none."""
    val: Mapping[str, MetricScore]
    test: Mapping[str, MetricScore]
    val_figures: Figures
    test_figures: Figures


_pooled: Common[tuple[bytes, bytes, bytes], _Pooled] = Common()


def _pooled_scores(plan: RunPlan, scored: coordinator_pb2.NetworkScored, label_order: NDArray[np.int64]) -> _Pooled:
    outputs, names = plan.outputs, plan.classes
    val = _plain(plan, scored.val_tallies, sum(one.val_images for one in plan.sites), label_order)
    test = _plain(plan, scored.test_tallies, sum(one.test_images for one in plan.sites), label_order)
    places_C = thresholds(val, outputs)
    edges_C = np.where(places_C >= 0, outputs.edges[places_C], np.nan) if outputs.bins else np.full(len(names), np.nan)
    return _Pooled(
        edges_C=edges_C,
        val=_named(val, outputs, names, places_C),
        test=_named(test, outputs, names, places_C),
        val_figures=_figures(val, _pooled_curves(val, outputs, names), outputs),
        test_figures=_figures(test, _pooled_curves(test, outputs, names), outputs),
    )


def split_scores(
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    outputs: Outputs,
    names: tuple[str, ...],
    edges_C: NDArray[np.float64],
) -> SplitScores:
    """Of one split; `edges_C` are thresholds in log-odds, NaN for none."""
    logits_NC, truths_NC = logits.astype(np.float64), truths_of(labels, outputs)
    at_C = None if np.isnan(edges_C).all() else edges_C
    made = tallies(logits_NC, labels, outputs, ("confusion", "calibration"))
    exact = exact_values(logits_NC, labels, outputs, at_C)
    return SplitScores(
        samples=len(labels),
        positives=dict(zip(names, (truths_NC == 1).sum(axis=0).tolist(), strict=True)),
        negatives=dict(zip(names, (truths_NC == 0).sum(axis=0).tolist(), strict=True)),
        metrics={name: MetricScore.of(one, names) for name, one in exact.items()},
        draws=draws_for(len(labels), outputs),
        figures=_figures(made, _curves(scores_of(logits_NC, outputs), truths_NC, names), outputs),
    )


def _plain(
    plan: RunPlan, told: Mapping[str, common_pb2.Tally], samples: int, label_order: NDArray[np.int64]
) -> dict[str, Tally]:
    """The sums in the site's own order. Raises ValueError: they can't be."""
    sums = from_messages(told)
    require_tallies(sums, samples=samples, outputs=plan.outputs, due=plan.metrics.tallies, some=True)
    return reordered(sums, np.argsort(label_order), plan.outputs)


def _named(
    sums: Mapping[str, Tally], outputs: Outputs, names: tuple[str, ...], places_C: NDArray[np.int64]
) -> dict[str, MetricScore]:
    at = None if (places_C < 0).all() else places_C
    return {name: MetricScore.of(one, names) for name, one in pooled_values(sums, outputs, at).items()}


def _threshold(edge: float) -> Threshold | None:
    if math.isnan(edge):
        return None
    chance = probabilities(np.array([[edge]]), Outputs(1, TaskKind.LABELS))
    return Threshold(chance=float(chance[0, 0]), log_odds=edge)


def _figures(sums: Mapping[str, Tally], curves: dict[str, Curves], outputs: Outputs) -> Figures:
    confusion = counts_of("confusion", sums["confusion"], outputs).tolist() if "confusion" in sums else []
    return Figures(
        confusion=tuple(map(tuple, confusion)),
        curves=curves,
        calibration=_calibration(sums["calibration"], outputs) if "calibration" in sums else (),
    )


def _curves(scores_NC: NDArray[np.float64], truths_NC: NDArray[np.int64], names: tuple[str, ...]) -> dict[str, Curves]:
    most, made = points_for(len(names)), {}
    for place, name in enumerate(names):
        known_N = truths_NC[:, place] >= 0
        one = scores_NC[known_N, place], truths_NC[known_N, place] == 1
        made[name] = _curve(roc_points(*one, most), precision_recall_points(*one, most))
    return made


def _pooled_curves(sums: Mapping[str, Tally], outputs: Outputs, names: tuple[str, ...]) -> dict[str, Curves]:
    if "scores" not in sums:
        return {}
    most, counts_C2K = points_for(len(names)), counts_of("scores", sums["scores"], outputs)
    return {
        name: _curve(binned_roc_points(counts_2K, most), binned_precision_recall_points(counts_2K, most))
        for name, counts_2K in zip(names, counts_C2K, strict=True)
    }


def _curve(roc_K2: NDArray[np.float64], precision_recall_K2: NDArray[np.float64]) -> Curves:
    points = [tuple((one, other) for one, other in each.tolist()) for each in (roc_K2, precision_recall_K2)]
    return Curves(roc=points[0], precision_recall=points[1])


def _calibration(tally: Tally, outputs: Outputs) -> tuple[CalibrationBin, ...]:
    counts, right = counts_of("calibration", tally, outputs).tolist()
    return tuple(
        CalibrationBin(count=count, right=good, chance=total / count if count else None)
        for count, good, total in zip(counts, right, tally.sums, strict=True)
    )
