"""From a run folder's files to its summary: ledgers merged and balanced, overhead split, results gathered.

`summary.json` is a contract; scripts read it. Every figure in it comes from the run's own files.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import shutil
import sqlite3
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc

from mple import __version__
from mple.meter import Balance, Overhead, SiteImages, balance, merge, overhead
from mple.meter.paper import ElementCount, count_elements
from mple.meter.reconciliation import KindRow, bytes_by_kind
from mple.model.metrics import summary_scores
from mple.plan import Custody, PlanError, RunPlan
from mple.privacy import protection
from mple.report.noise_levels import noise_levels

_COMPUTE = "compute"
_PARTS = ("data", "label", "layer", "logits", "setup", "control", "framing")


class SummaryError(ValueError):
    """The folder holds no finished run."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A run summed up: what tables and files are made of."""

    folder: Path
    plan: RunPlan
    outcome: dict[str, Any]
    """The compute node's `outcome.json`."""
    epochs: tuple[dict[str, Any], ...]
    """Epoch lines of `metrics.jsonl`."""
    overhead: Overhead
    kinds: tuple[KindRow, ...]
    balance: Balance

    @property
    def scores(self) -> dict[str, float]:
        """After the last epoch, over all sites' test images, by metric."""
        return dict(self.epochs[-1]["scores"]) if self.epochs else {}

    @property
    def absences(self) -> list[dict[str, object]]:
        """Epochs in which training went on without some samples or scores, with the sites and the numbers."""
        return [
            {name: epoch[name] for name in ("epoch", "missing", "unscored")}
            for epoch in self.epochs
            if epoch["missing"] or epoch["unscored"]
        ]

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
        plan, whole = self.plan, self.overhead
        elements = self.elements
        train_s = float(self.outcome["train_seconds"])
        return {
            "state": "finished",
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
                    "images": site.images,
                    "uplink_bytes": site.uplink_bytes,
                    "downlink_bytes": site.downlink_bytes,
                    "overhead_ratio": site.ratio,
                }
                for site in whole.sites
            ],
            "epochs": [
                {"loss": epoch["loss"], **summary_scores(epoch["scores"]), "seconds": epoch["seconds"]}
                for epoch in self.epochs
            ],
            **summary_scores(self.scores),
            "absences": self.absences,
            "wire": {
                "raw_pixel_bytes": whole.sum("raw_pixel_bytes"),
                **{f"{part}_bytes": whole.sum(f"{part}_bytes") for part in _PARTS},
                "resent_samples": whole.sum("resent_samples"),
                "resent_bytes": whole.sum("resent_bytes"),
                "total_bytes": whole.sum("total_bytes"),
                "ratio": whole.ratio,
            },
            "paper_overhead": {"elements_ratio": elements.sent_ratio, "quoted_ratio": elements.quoted_ratio},
            "compute": {
                "train_seconds": train_s,
                "augconv_seconds": self.outcome["augconv_seconds"],
                "idle_share": float(self.outcome["idle_seconds"]) / train_s,
                "idle_seconds_by_cause": self.outcome.get("idle_seconds_by_cause", {}),
                "read_ahead_seconds": self.outcome.get("read_ahead_seconds", 0.0),
                "samples_per_second": float(self.outcome["samples_trained"]) / train_s,
            },
            "model_sha256": self.outcome["model_sha256"],
            "codec": plan.wire.codec,
            "morph": plan.morph.preset,
            "custody": plan.custody,
            "protection": protection(plan),
            "privacy": {
                **dataclasses.asdict(plan.privacy),
                "sites": [dataclasses.asdict(level) for level in noise_levels(self.folder, plan)],
            },
            "balance": dataclasses.asdict(self.balance),
            "versions": {
                "mple": __version__,
                "python": platform.python_version(),
                "torch": version("torch"),
                "grpc": grpc.__version__,
            },
        }


def summarise(folder: Path) -> Summary:
    """Merge the ledgers of a finished run and write `summary.json` and what else belongs at the top of its folder.

    Raises:
        SummaryError: A file that a finished run leaves is missing.
    """
    state = folder / "nodes" / _COMPUTE / "state"
    for name in ("model.safetensors", "metrics.jsonl", "plan.json"):
        if not (state / name).exists():
            raise SummaryError(f"{state / name} is missing: the run in {folder} has not finished")
        shutil.copyfile(state / name, folder / name)
    if (state / "tensorboard").exists():
        shutil.rmtree(folder / "tensorboard", ignore_errors=True)
        shutil.copytree(state / "tensorboard", folder / "tensorboard")
    ledgers = sorted((folder / "nodes").glob("*/state/ledger.sqlite"))
    merged = folder / "ledger.sqlite"
    merged.unlink(missing_ok=True)
    merge(ledgers, merged)
    summary = _gathered(folder)
    text = json.dumps(summary.to_json(), indent=2) + "\n"
    (folder / "summary.json").write_text(text, encoding="utf-8")
    return summary


def read_summary(folder: Path) -> Summary:
    """The summary of a run that `summarise` has been through.

    Raises:
        SummaryError: The folder holds no finished run, or its ledger can't be read.
    """
    path = folder / "summary.json"
    if not path.exists():
        raise SummaryError(f"{folder} holds no summary.json: is it the folder of a run?")
    note = json.loads(path.read_text(encoding="utf-8"))
    if note.get("state") != "finished":
        raise SummaryError(f"the run in {folder} is {note.get('state')}: {note.get('reason', 'no reason given')}")
    return _gathered(folder)


def _gathered(folder: Path) -> Summary:
    try:
        plan = RunPlan.from_json((folder / "plan.json").read_bytes())
        outcome = json.loads((folder / "nodes" / _COMPUTE / "state" / "outcome.json").read_text(encoding="utf-8"))
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, PlanError) as fault:
        raise SummaryError(f"the run in {folder} has not finished: {fault}") from None
    epochs = [metrics for metrics in map(json.loads, lines) if metrics["kind"] == "epoch"]
    merged = folder / "ledger.sqlite"
    if not merged.is_file():  # SQLite would make an empty one
        raise SummaryError(f"{merged} is missing: the run in {folder} was not summed up, or not copied whole")
    sites = [
        SiteImages(
            name=site.name,
            images=site.train_images + site.test_images,
            raw_pixel_bytes=(site.train_images + site.test_images) * plan.image.elements,
        )
        for site in plan.sites
    ]
    try:
        return Summary(
            folder=folder,
            plan=plan,
            outcome=outcome,
            epochs=tuple(epochs),
            overhead=overhead(merged, sites),
            kinds=tuple(bytes_by_kind(merged)),
            balance=balance(merged),
        )
    except sqlite3.DatabaseError as fault:
        raise SummaryError(f"{merged} can't be read: {fault}; is it of another version of mple?") from None
