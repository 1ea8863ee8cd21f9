"""From a run folder's files to its summary: ledgers merged and balanced, overhead split, results gathered.

`summary.json` is a contract; scripts read it. Every figure in it comes from the run's own files.
"""

import dataclasses
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import grpc

from mple import __version__
from mple.disk.json_records import fields_in_lines, read_record
from mple.disk.private import private_file
from mple.disk.whole_files import write_whole
from mple.meter.ledger_reading import require_sound_rows
from mple.meter.paper import ElementCount, count_elements
from mple.meter.reconciliation import Balance, KindRow, Overhead, SiteImages, balance, bytes_by_kind, merge, overhead
from mple.metrics import summary_scores
from mple.plan import Custody, RunPlan
from mple.privacy import protection
from mple.records.run_folder import COMPUTE, SUMMARY, RunEnd, RunFolder, RunFolderError, RunNote
from mple.records.scores import NetworkScores
from mple.records.state_files import METRICS, MODEL, OUTCOME, PLAN, SCORES, TENSORBOARD
from mple.records.training import EpochMetrics, Outcome, TrainingMetrics, epochs_of, read_metrics
from mple.report.noise_levels import noise_levels
from mple.report.run_facts import RunFacts, run_facts, source_commit
from mple.report.scores import SplitView, split_views
from mple.report.scores_as_json import views_as_json

PARTS = ("data", "label", "layer", "basis", "logits", "network", "setup", "control", "framing")
"""Of what crossed a site's link, as the ledgers count it."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A run summed up: what tables and files are made of."""

    folder: RunFolder
    plan: RunPlan
    outcome: Outcome
    judged: NetworkScores
    metrics: tuple[TrainingMetrics, ...]
    overhead: Overhead
    kinds: tuple[KindRow, ...]
    balance: Balance
    versions: Mapping[str, str]
    """Of the programs that have summed the run up."""
    facts: RunFacts = field(default_factory=RunFacts)
    views: Mapping[str, SplitView] = field(default_factory=dict)
    """How the network does, by split, as far as the folder tells."""

    @property
    def epochs(self) -> tuple[EpochMetrics, ...]:
        """All that were finished."""
        return epochs_of(self.metrics)

    @property
    def scores(self) -> dict[str, float]:
        """Of the network that was kept, over all sites' test images, by metric."""
        return self.judged.values_of_test(self.plan.outputs)

    @property
    def val_scores(self) -> dict[str, float]:
        """The same, over all sites' validation images."""
        return self.judged.values_of_val(self.plan.outputs)

    @property
    def untested(self) -> tuple[str, ...]:
        """Sites with test images that did not score the network."""
        return tuple(site.name for site in self.plan.sites if site.test_images and site.name not in self.judged.test)

    @property
    def absences(self) -> tuple[EpochMetrics, ...]:
        """Epochs in which training went on without some samples or scores of validation."""
        return tuple(epoch for epoch in self.epochs if epoch.missing or epoch.unscored)

    @property
    def elements(self) -> ElementCount:
        """The papers' own measure; in escrow custody no site sends a layer."""
        plan = self.plan
        return count_elements(
            plan.morph.scheme(),
            plan.image,
            images=self.overhead.sum("images"),
            sites=0 if plan.custody is Custody.ESCROW else len(plan.sites),
            filters=plan.filters,
            kernel=plan.model.kernel,
        )

    def to_json(self) -> dict[str, object]:
        """The content of `summary.json`."""
        plan, whole, outcome, elements = self.plan, self.overhead, self.outcome, self.elements
        return {
            "state": RunEnd.FINISHED,
            "run_id": plan.run_id,
            "plan_hash": plan.sha256().hex(),
            "dataset": {
                "images": whole.sum("images"),
                "shape": [plan.channels, plan.height, plan.width],
                "classes": plan.classes,
            },
            "sites": [
                {
                    "name": site.name,
                    "patients": plan.site(site.name).patients,
                    "images": site.images,
                    "uplink_bytes": site.uplink_bytes,
                    "downlink_bytes": site.downlink_bytes,
                    "overhead_ratio": site.ratio,
                }
                for site in whole.sites
            ],
            "epochs": [
                {"loss": epoch.loss, **summary_scores(epoch.scores, "val"), "seconds": epoch.seconds}
                for epoch in self.epochs
            ],
            "kept_epoch": self.judged.kept_epoch,
            **summary_scores(self.val_scores, "val"),
            **summary_scores(self.scores),
            "untested": self.untested,
            "scores": views_as_json(self.views),
            "absences": [
                {"epoch": epoch.epoch, "missing": epoch.missing, "unscored": epoch.unscored} for epoch in self.absences
            ],
            "wire": {
                "raw_pixel_bytes": whole.sum("raw_pixel_bytes"),
                **{f"{part}_bytes": whole.sum(f"{part}_bytes") for part in PARTS},
                "resent_samples": whole.sum("resent_samples"),
                "resent_bytes": whole.sum("resent_bytes"),
                "total_bytes": whole.sum("total_bytes"),
                "ratio": whole.ratio,
                "ratio_without_network": (whole.sum("total_bytes") - whole.sum("network_bytes"))
                / max(1, whole.sum("raw_pixel_bytes")),
            },
            "paper_overhead": {"elements_ratio": elements.sent_ratio, "quoted_ratio": elements.quoted_ratio},
            "compute": {
                "ranks": plan.training.ranks,
                "train_seconds": outcome.train_seconds,
                "augconv_seconds": outcome.augconv_seconds,
                "idle_share": outcome.idle_seconds / outcome.train_seconds,
                "idle_seconds_by_cause": outcome.idle_seconds_by_cause,
                "read_ahead_seconds": outcome.read_ahead_seconds,
                "samples_per_second": outcome.samples_trained / outcome.train_seconds,
            },
            "model_sha256": outcome.model_sha256,
            "delivered": outcome.delivered,
            "codec": plan.wire.codec,
            "morph": plan.morph.preset,
            "custody": plan.custody,
            "protection": protection(plan),
            "privacy": {
                **dataclasses.asdict(plan.privacy),
                "sites": [dataclasses.asdict(level) for level in noise_levels(self.folder, plan)],
            },
            "balance": dataclasses.asdict(self.balance),
            "versions": dict(self.versions),
            **dataclasses.asdict(self.facts),
        }


def summarise(path: Path, command: str = "") -> Summary:
    """Merge the ledgers of a finished run and write `summary.json` and what else belongs at the top of its folder;
    `command` is what has started the run.

    Raises RunFolderError: a file that a finished run leaves is missing.
    """
    folder = RunFolder.begun(path)
    state = folder.state(COMPUTE)
    for name in (MODEL, METRICS, PLAN):
        if not (state / name).exists():
            raise RunFolderError(f"{state / name} is missing: the run in {path} has not finished")
        shutil.copyfile(state / name, private_file(path / name))
    if (state / TENSORBOARD).exists():
        shutil.rmtree(path / TENSORBOARD, ignore_errors=True)
        shutil.copytree(state / TENSORBOARD, path / TENSORBOARD)
    folder.ledger.unlink(missing_ok=True)
    merge([ledger for ledger in folder.node_ledgers if ledger.exists()], folder.ledger)
    versions = {
        "mple": __version__,
        "python": platform.python_version(),
        "torch": version("torch"),
        "grpc": grpc.__version__,
    }
    summary = _gathered(folder, versions, command, source_commit())
    write_whole(path / SUMMARY, fields_in_lines(summary.to_json()))
    return summary


def read_summary(path: Path) -> Summary:
    """The summary of a run that `summarise` has been through, from its folder.

    Raises RunFolderError: the folder holds no finished run; LedgerFileError: its ledger is none; ValueError: another
    file is damaged or too large; OSError: one can't be read.
    """
    folder = RunFolder.finished(path)
    note = folder.note()
    note = note or RunNote(state=RunEnd.FINISHED)
    return _gathered(folder, note.versions, note.command, note.commit)


def _gathered(folder: RunFolder, versions: Mapping[str, str], command: str, commit: str) -> Summary:
    plan, merged = folder.plan(), folder.ledger
    try:
        state = folder.state(COMPUTE)
        outcome, judged = read_record(Outcome, state / OUTCOME), read_record(NetworkScores, state / SCORES)
        metrics = read_metrics(folder.path / METRICS)
    except FileNotFoundError as fault:
        raise RunFolderError(f"{fault.filename} is missing: the run in {folder.path} has not finished") from None
    if not merged.is_file():  # SQLite would make an empty one
        raise RunFolderError(f"{merged} is missing: the run in {folder.path} was not summed up, or not copied whole")
    images = {site.name: site.images for site in plan.sites}
    sites = [
        SiteImages(name=name, images=count, raw_pixel_bytes=count * plan.image.elements)
        for name, count in images.items()
    ]
    require_sound_rows(merged)
    return Summary(
        folder=folder,
        plan=plan,
        outcome=outcome,
        judged=judged,
        metrics=metrics,
        overhead=overhead(merged, sites),
        kinds=tuple(bytes_by_kind(merged)),
        balance=balance(merged),
        versions=versions,
        facts=run_facts(merged, command, commit),
        views=split_views(folder, plan, judged),
    )
