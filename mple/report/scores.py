"""How a run's network does, from what lies in the run's folder: of all sites together, and of each.

A site's own file has exact values by the names of classes, and what all sites together come to. Without it there are
the tallies that the site told the compute node, in whose permuted order no class has a name. What is in neither is said
to be missing, and why, as far as that is known; nothing is filled in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mple.disk.json_records import read_record
from mple.metrics import METRICS, TALLIES, Tally, merged, require_tallies, thresholds
from mple.metrics import values as metric_values
from mple.metrics.exact import Exact
from mple.metrics.pooled import pooled_values
from mple.metrics.tallies import counts_of
from mple.plan import RunPlan
from mple.printable import some_of
from mple.records.run_folder import RunFolder, RunFolderError
from mple.records.scores import NetworkScores
from mple.records.site_scores import CalibrationBin, Figures, MetricScore, SiteScores, SplitScores
from mple.records.state_files import SITE_SCORES
from mple.report.few_sites import untold

ALL = "all sites"
VAL, TEST = "validation", "test"
NOT_DEFINED, WITHHELD, NOT_TOLD, NO_THRESHOLD, NOT_PLANNED, TOO_MANY = (
    "not defined",
    "withheld",
    "not told",
    "no threshold",
    "not in the plan",
    "too many classes",
)
"""Why there is no value: there are no such samples; fewer than a site's least count; nobody at hand knows; no
validation has chosen one; the plan names no tally for it; there is no such tally of so many classes."""


class _Titles(dict[str, str]):
    """Of every metric, one that is a row of `METRICS` alone by its own name."""

    def __missing__(self, metric: str) -> str:
        return metric.replace("_", " ")


TITLES: Mapping[str, str] = _Titles(
    auroc="AUROC",
    f1="F1",
    ece="calibration error",
    sensitivity="sensitivity at 0.5",
    specificity="specificity at 0.5",
)
_MOST = 10**12
_MOST_WITH_INTERVALS = 50
"""Classes up to which intervals are made anew of tallies; of more that takes many seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """The scores of one split, of one site or of all."""

    name: str
    """The site's, or `ALL`."""
    samples: int
    """That the values are of."""
    exact: bool
    """Whether all of a site, and of all sites figures and positives, come from the sites' own files; else from tallies.
    """
    metrics: Mapping[str, MetricScore]
    figures: Figures
    positives: Mapping[str, int]
    """By class: samples that are of it, or have the label; empty where that is not known."""
    missing: Mapping[str, str]
    """By metric: why it has no value; `NOT_DEFINED` of those that are not in it."""
    missing_of_class: str = NOT_DEFINED
    """Why a class has no value of a metric that others have one of, where it has samples."""

    def why(self, metric: str, name: str | None = None) -> str:
        """Why a metric has no value, of a class or of all."""
        if name is None or metric in self.missing:
            return self.missing.get(metric, NOT_DEFINED)
        return NOT_DEFINED if self.positives.get(name) == 0 else self.missing_of_class


@dataclass(frozen=True, kw_only=True, slots=True)
class Lowest:
    """The class of whose samples the smallest part is found."""

    name: str
    found: int
    of: int
    every_class: bool
    """Whether all classes with samples are known; else sites have left some out."""

    @property
    def value(self) -> float:
        """Its sensitivity."""
        return self.found / self.of


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitView:
    """The scores of one split."""

    name: str
    """`VAL` or `TEST`."""
    several: bool
    """Whether the task is of labels."""
    whole: View
    """Of all sites."""
    sites: tuple[View, ...]
    """Those with samples of the split, in the plan's order, that scored."""
    notes: tuple[str, ...]
    """What was withheld, and what is not at hand, in sentences."""

    @property
    def lowest(self) -> Lowest | None:
        """The class that is found least; None where no confusion is known by class."""
        counted = found_by_class(self.whole.figures.confusion, self.whole.positives, several=self.several)
        if not counted:
            return None
        name, (found, of) = min(counted.items(), key=lambda one: (one[1][0] / one[1][1], one[0]))
        return Lowest(name=name, found=found, of=of, every_class=self.whole.exact)


def found_by_class(
    confusion: Sequence[Sequence[int]], names: Iterable[str], *, several: bool
) -> dict[str, tuple[int, int]]:
    """For each class with samples how many are found, and how many there are: of classes by the likeliest one, of
    labels at probability 0.5."""
    counted = {}
    for place, (name, row) in enumerate(zip(names, confusion, strict=False)):
        found, of = (row[3], row[2] + row[3]) if several else (row[place], sum(row))
        if of:
            counted[name] = (found, of)
    return counted


def split_views(folder: RunFolder, plan: RunPlan, judged: NetworkScores) -> dict[str, SplitView]:
    """The scores of each split that the plan has samples of, by its name.

    Raises ValueError: a file is damaged, or is of another run; OSError: one can't be read.
    """
    files = _site_files(folder, plan, judged)
    outputs = plan.outputs
    for told in (judged.val, judged.test):
        for site, tallies in told.items():
            try:
                require_tallies(tallies, samples=_MOST, outputs=outputs, due=plan.metrics.tallies, some=True)
            except ValueError as fault:
                raise RunFolderError(f"the compute node's scores of {site}: {fault}") from None
    at = thresholds(merged(judged.val.values()), outputs) if judged.val else None
    no_threshold = {
        name: NO_THRESHOLD
        for name, metric in METRICS.items()
        if metric.at_threshold is not None and (at is None or (at < 0).all())
    }
    made = {}
    for name, told in ((VAL, judged.val), (TEST, judged.test)):
        images = {one.name: one.val_images if name == VAL else one.test_images for one in plan.sites}
        images = {site: count for site, count in images.items() if count}
        if images:
            exact = {site: one for site, file in files.items() if (one := file.val if name == VAL else file.test)}
            split = _Split(name, plan, images, told, exact, at, no_threshold)
            made[name] = split.view(files)
    return made


@dataclass(frozen=True, slots=True)
class _Split:
    name: str
    plan: RunPlan
    images: Mapping[str, int]
    """By site."""
    told: Mapping[str, Mapping[str, Tally]]
    exact: Mapping[str, SplitScores]
    at: np.ndarray | None
    no_threshold: Mapping[str, str]

    def view(self, files: Mapping[str, SiteScores]) -> SplitView:
        sites = [self._site(site) for site in self.images if site in self.exact or site in self.told]
        return SplitView(
            name=self.name,
            several=self.plan.outputs.several,
            whole=self._whole(files),
            sites=tuple(sites),
            notes=tuple(self._notes()),
        )

    def _site(self, site: str) -> View:
        exact = self.exact.get(site)
        if exact is None:
            return self._from_tallies(site, self.told[site])
        return View(
            name=site,
            samples=exact.samples,
            exact=True,
            metrics=exact.metrics,
            figures=exact.figures,
            positives=exact.positives,
            missing={name: why for name, why in self.no_threshold.items() if _value(exact.metrics, name) is None},
        )

    def _from_tallies(self, name: str, sums: Mapping[str, Tally]) -> View:
        """Without the names of classes, which the compute node does not know."""
        outputs = self.plan.outputs
        if outputs.count > _MOST_WITH_INTERVALS:
            values = {one: Exact(value=value) for one, value in metric_values(sums, outputs, self.at).items()}
        else:
            values = pooled_values(sums, outputs, self.at)
        return View(
            name=name,
            samples=self._judged(sums),
            exact=False,
            metrics={one: MetricScore(value=of.value, interval=of.interval) for one, of in values.items()},
            figures=Figures(calibration=_calibration(sums)),
            positives={},
            missing=self._missing(values),
        )

    def _whole(self, files: Mapping[str, SiteScores]) -> View:
        sums = merged(self.told.values())
        complete = set(self.exact) == set(self.images)
        if files:
            file = next(iter(files.values()))
            metrics = file.pooled_val if self.name == VAL else file.pooled_test
            figures = file.pooled_val_figures if self.name == VAL else file.pooled_test_figures
            withheld = any(self._withheld(site) or self._left_out(site) for site in self.told)
            view = View(
                name=ALL,
                samples=self._judged(sums),
                exact=False,
                metrics=metrics,
                figures=figures,
                positives=_positives(figures, self.plan),
                missing=self._missing(metrics),
                missing_of_class=NOT_TOLD if withheld else NOT_DEFINED,
            )
        else:
            view = self._from_tallies(ALL, sums)
        if not complete:
            return view
        parts = tuple(self.exact.values())
        figures = replace(
            view.figures,
            confusion=_sum_of([one.figures.confusion for one in parts]),
            calibration=_pooled_bins([one.figures.calibration for one in parts]),
        )
        positives = {name: sum(one.positives.get(name, 0) for one in parts) for name in self.plan.classes}
        return replace(
            view,
            exact=True,
            figures=figures,
            positives=positives,
            missing_of_class=WITHHELD if view.missing_of_class == NOT_TOLD else NOT_DEFINED,
        )

    def _judged(self, sums: Mapping[str, Tally]) -> int:
        """How many samples tallies are of, as far as they say; else as many as the sites have that told some."""
        name = next((one for one in ("counts", "loss") if one in sums), None)
        if name is not None and not self.plan.outputs.several:
            return sums[name].counts[0]
        own = [site for site, one in self.told.items() if one is sums]
        return sum(self.images.get(site, 0) for site in own or [site for site, one in self.told.items() if one])

    def _missing(self, metrics: Iterable[str]) -> dict[str, str]:
        planned, outputs = set(self.plan.metrics.tallies), self.plan.outputs
        found = dict(self.no_threshold)
        for name, metric in METRICS.items():
            if metric.tally not in planned:
                found[name] = NOT_PLANNED
            elif not TALLIES[metric.tally].shape(outputs):
                found[name] = TOO_MANY
            elif not any(metric.tally in one for one in self.told.values()):
                found[name] = WITHHELD
        return {name: why for name, why in found.items() if name not in metrics}

    def _withheld(self, site: str) -> list[str]:
        due = [name for name in self.plan.metrics.tallies if TALLIES[name].shape(self.plan.outputs)]
        return [name for name in due if name not in self.told[site]]

    def _left_out(self, site: str) -> int:
        """Classes of which a site told nothing in tallies by class, though it told them."""
        tallies, outputs = self.told[site], self.plan.outputs
        if "scores" not in tallies or not TALLIES["scores"].shape(outputs):
            return 0
        return int((counts_of("scores", tallies["scores"], outputs).sum(axis=(1, 2)) == 0).sum())

    def _notes(self) -> list[str]:
        notes = []
        silent = [site for site in self.images if site not in self.told]
        if silent:
            notes.append(f"did not score their {self.name} pictures: {some_of(silent)}")
        notes += untold(self.name, {site: (self._withheld(site), self._left_out(site)) for site in self.told})
        without = [site for site in self.images if site not in self.exact and site in self.told]
        if without:
            notes.append(
                f"values by class and curves of single sites come from their own files, which of {some_of(without)} "
                "is not at hand; their other values are made of tallies"
            )
        return notes


def _site_files(folder: RunFolder, plan: RunPlan, judged: NetworkScores) -> dict[str, SiteScores]:
    """Files of scores that are at hand, by site. Raises ValueError: one is damaged, or not of this run's end."""
    files: dict[str, SiteScores] = {}
    first: Path | None = None
    for site in plan.sites:
        path = folder.state(site.name) / SITE_SCORES.format(plan.run_id)
        if not path.is_file():
            continue
        file = read_record(SiteScores, path)
        for what, found, due in (
            ("plan", file.plan_sha256, plan.sha256().hex()),
            ("site", file.site, site.name),
            ("classes", file.classes, plan.classes),
            ("epoch", file.epoch, judged.kept_epoch),
        ):
            if found != due:
                raise RunFolderError(f"{path} is of another {what} than the run in {folder.path}; copy the right file")
        own = [one.figures for one in (file.val, file.test) if one is not None]
        for figures in (*own, file.pooled_val_figures, file.pooled_test_figures):
            try:
                figures.require_sound(plan.outputs, plan.classes)
            except ValueError as fault:
                raise RunFolderError(f"{path} has {fault}, which no site writes") from None
        if first is not None:
            one = next(iter(files.values()))
            if (file.pooled_val, file.pooled_test) != (one.pooled_val, one.pooled_test):
                raise RunFolderError(f"{path} and {first} differ in what all sites come to; one is of another run")
        files[site.name], first = file, first or path
    return files


def _value(metrics: Mapping[str, MetricScore], name: str) -> float | None:
    return metrics[name].value if name in metrics else None


def _positives(figures: Figures, plan: RunPlan) -> dict[str, int]:
    """Samples that sites told of, by class; none where no confusion was told."""
    if not figures.confusion:
        return {}
    several = plan.outputs.several
    rows = zip(plan.classes, figures.confusion, strict=False)
    return {name: row[2] + row[3] if several else sum(row) for name, row in rows}


def _calibration(sums: Mapping[str, Tally]) -> tuple[CalibrationBin, ...]:
    tally = sums.get("calibration")
    if tally is None:
        return ()
    bins = len(tally.sums)
    return tuple(
        CalibrationBin(count=count, right=right, chance=total / count if count else None)
        for count, right, total in zip(tally.counts[:bins], tally.counts[bins:], tally.sums, strict=True)
    )


def _sum_of(parts: Sequence[Sequence[Sequence[int]]]) -> tuple[tuple[int, ...], ...]:
    """The sum of matrices; none where one is missing or of another shape."""
    if len({(len(one), *map(len, one)) for one in parts}) != 1:
        return ()
    return tuple(tuple(sum(cells) for cells in zip(*rows, strict=True)) for rows in zip(*parts, strict=True))


def _pooled_bins(parts: Sequence[Sequence[CalibrationBin]]) -> tuple[CalibrationBin, ...]:
    if len({len(one) for one in parts}) != 1:
        return ()
    pooled = []
    for bins in zip(*parts, strict=True):
        count = sum(one.count for one in bins)
        total = sum(one.count * (one.chance or 0.0) for one in bins)
        pooled.append(
            CalibrationBin(count=count, right=sum(one.right for one in bins), chance=total / count if count else None)
        )
    return tuple(pooled)
