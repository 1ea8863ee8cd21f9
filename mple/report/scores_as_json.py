"""Scores as `summary.json` has them. Pure."""

import dataclasses
from collections.abc import Mapping

from mple.report.scores import TEST, VAL, SplitView, View


def views_as_json(views: Mapping[str, SplitView]) -> dict[str, object]:
    """What `summary.json` has of them: by split and site values, intervals, and confusion and calibration; the points
    of curves stay in the sites' own files."""
    return {
        {VAL: "val", TEST: "test"}[name]: {
            "all_sites": _view_as_json(view.whole),
            "sites": {one.name: _view_as_json(one) for one in view.sites},
            "lowest_sensitivity": None if view.lowest is None else dataclasses.asdict(view.lowest),
            "notes": view.notes,
        }
        for name, view in views.items()
    }


def _view_as_json(view: View) -> dict[str, object]:
    figures = {
        "confusion": view.figures.confusion,
        "calibration": [dataclasses.asdict(one) for one in view.figures.calibration],
    }
    return {
        "samples": view.samples,
        "exact": view.exact,
        "positives": view.positives,
        "metrics": {name: dataclasses.asdict(one) for name, one in view.metrics.items()},
        "missing": view.missing,
        **figures,
    }
