"""Every metric of small trained networks, by site and pooled, beside scikit-learn's on the same logits.

    python -m benchmarks.metrics_tables [--mri FILE.npz] [--chest FILE.npz] [--out results]

Three sets over three sites: CIFAR-10; brain MRI, an `.npz` as `mple.data` reads it, left out where none is given; chest
X-rays with several labels, as ChestMNIST's file has them. Without such a file pictures are drawn: soft blobs at five
places, each a finding that is there, absent or unknown. The networks are trained on the plain pictures in one process,
for seconds: how good they are is not the point, their metrics are.

At each site `mple.metrics.exact` is compared with scikit-learn on the site's logits; pooled values, made of the tallies
that the sites tell under the default least count, with scikit-learn on all sites' logits together, each class on those
of the sites that tell of it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.machine import machine
from benchmarks.reference_metrics import by_reference
from mple.data import (
    Cifar10Source,
    Dataset,
    DataSource,
    LabelledImages,
    NpzSource,
    Partition,
    PartitionKind,
    open_source,
)
from mple.data.normalise import normalise
from mple.metrics import TALLIES, Outputs, Tally, merged, thresholds
from mple.metrics.exact import Exact, exact_values
from mple.metrics.messages import to_messages
from mple.metrics.pooled import pooled_values
from mple.metrics.withholding import told
from mple.model.first_layer.plain import plain_features
from mple.model.settings import ModelSettings, TaskKind, TaskSettings, TrainingSettings
from mple.model.stem import planned_stem
from mple.plan import RunChoices
from mple.simulate.plain_training import PlainSettings, train_plain

_SITES = ("north", "east", "south")
_LEAST_COUNT = 5
_AT_ONCE = 250
_WITHIN = {"exact": 1e-9, "pooled": 0.002}
_Reference = tuple[dict[str, float], dict[str, list[float | None]]]
_RESULTS = Path(__file__).resolve().parents[1] / "results"


@dataclass(frozen=True, kw_only=True)
class _Set:
    name: str
    about: str
    source: DataSource
    task: TaskKind = TaskKind.CLASSES
    epochs: int
    width: float = 0.125
    batch: int = 64


def main() -> None:
    """Train, compare, and write `metrics.json` and `metrics.md`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mri", type=Path, help="brain MRI, left out where none is given")
    parser.add_argument("--chest", type=Path, help="several labels, by default drawn")
    parser.add_argument("--train", type=int, default=1000, help="training pictures of each site at most")
    parser.add_argument("--out", type=Path, default=_RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        found = {one.name: _measured(one) for one in _sets(options, Path(scratch))}
    about = {
        "command": "python -m benchmarks.metrics_tables" + (" --mri FILE.npz" if options.mri else ""),
        "machine": machine(),
        "least_count": _LEAST_COUNT,
        "sets": found,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "metrics.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    (options.out / "metrics.md").write_text(_page(about), encoding="utf-8")
    worst = {kind: max(one["largest_difference"][kind] for one in found.values()) for kind in _WITHIN}
    print(json.dumps(worst))
    if any(worst[kind] > most for kind, most in _WITHIN.items()):
        raise SystemExit(f"differences of {worst}; allowed are {_WITHIN}")


def _sets(options: argparse.Namespace, scratch: Path) -> list[_Set]:
    most = {"most_train": options.train}
    cifar10 = Cifar10Source(partition=_parts(PartitionKind.DIRICHLET), validation_share=0.1, **most)
    sets = [_Set(name="CIFAR-10", about="10 classes, colour, 32 x 32", source=cifar10, epochs=3)]
    if options.mri is not None:
        source = NpzSource(path=options.mri, partition=_parts(PartitionKind.IID), validation_share=0.1, **most)
        about = "4 classes, grey, 64 x 64; slices of one patient may be on both sides of the split"
        sets.append(_Set(name="brain MRI", about=about, source=source, epochs=2))
    path, about = options.chest, "several labels, grey"
    if path is None:
        path, about = _drawn_findings(scratch / "findings.npz"), "drawn pictures, 5 labels, a tenth unknown, 28 x 28"
    source = NpzSource(path=path, partition=_parts(PartitionKind.IID), **most)
    sets.append(_Set(name="findings", about=about, source=source, task=TaskKind.LABELS, epochs=3))
    return sets


def _parts(kind: PartitionKind) -> Partition:
    return Partition(kind=kind, parts=len(_SITES))


def _drawn_findings(path: Path) -> Path:
    rng = np.random.Generator(np.random.PCG64(5))
    grid = np.linspace(-1, 1, 28)
    angles = np.arange(5) * 2 * np.pi / 5
    blobs_LHW = np.exp(
        -12
        * (
            (grid[None, :, None] - 0.5 * np.sin(angles)[:, None, None]) ** 2
            + (grid[None, None, :] - 0.5 * np.cos(angles)[:, None, None]) ** 2
        )
    )
    arrays: dict[str, NDArray[Any]] = {}
    for split, count in (("train", 3000), ("val", 600), ("test", 1200)):
        there_NL = rng.random((count, 5)) < [0.05, 0.1, 0.2, 0.3, 0.5]
        strength_NL = there_NL * rng.uniform(0.0, 1.0, there_NL.shape)
        pictures = 90 + 60 * np.tensordot(strength_NL, blobs_LHW, 1) + rng.normal(0, 20, (count, 28, 28))
        arrays[f"{split}_images"] = np.clip(pictures, 0, 255).astype(np.uint8)
        arrays[f"{split}_labels"] = np.where(rng.random(there_NL.shape) < 0.1, -1, there_NL).astype(np.int64)
    np.savez(path, **arrays)
    return path


def _measured(one: _Set) -> dict[str, Any]:
    sources = [_at_site(one.source, place) for place in range(len(_SITES))]
    sites = [open_source(source) for source in sources]
    training = TrainingSettings(epochs=one.epochs, batch=one.batch, peak_lr=0.05)
    choices = RunChoices(model=ModelSettings(width=one.width), training=training, task=TaskSettings(kind=one.task))
    trained = train_plain(sites, PlainSettings(choices=choices))
    outputs, names = Outputs(len(sites[0].classes), one.task), sites[0].classes
    channels = sites[0].train.shape.channels
    stem = planned_stem(choices.model, filters=choices.model.filters, channels=channels, offered=None)

    def logits_of(images: LabelledImages) -> NDArray[np.float64]:
        rows = [np.empty((0, len(names)))]
        for low in range(0, len(images), _AT_ONCE):
            x_BCHW = torch.from_numpy(normalise(images.pixels_NCHW[low : low + _AT_ONCE], choices.normalisation))
            with torch.no_grad():
                rows.append(trained.trunk.eval()(plain_features(stem, x_BCHW)).numpy().astype(np.float64))
        return np.concatenate(rows)

    val_sums = _told_by_all(sites, [logits_of(site.val) for site in sites], outputs, "val")
    at = thresholds(val_sums, outputs) if val_sums else None
    at_C = None if at is None else np.where(at >= 0, outputs.edges[at], np.nan)
    logits = [logits_of(site.test) for site in sites]
    labels = [site.test.labels for site in sites]
    tables = {
        name: _compared(
            exact_values(logits_NC, true, outputs, at_C), by_reference(logits_NC, true, outputs, at_C), names
        )
        for name, true, logits_NC in zip(_SITES, labels, logits, strict=True)
    }
    sums = _told_by_all(sites, logits, outputs, "test")
    withheld = [
        told(z, site.test.labels, outputs, tuple(TALLIES), _LEAST_COUNT) for z, site in zip(logits, sites, strict=True)
    ]
    left_out = [here.left_out for here in withheld]
    pooled = _compared(
        pooled_values(sums, outputs, at), _reference_of_all(logits, labels, left_out, outputs, at_C), names
    )
    found = {
        "about": one.about,
        "classes": names,
        "samples": {name: len(site.test) for name, site in zip(_SITES, sites, strict=True)},
        "epochs": one.epochs,
        "left_out": {
            name: [names[place] for place in here.left_out] for name, here in zip(_SITES, withheld, strict=True)
        },
        "bytes": {name: _size(name, withheld[0].tallies) for name in withheld[0].tallies},
        "sites": tables,
        "pooled": pooled,
        "largest_difference": {
            "exact": max(_largest(table) for table in tables.values()),
            "pooled": _largest({"auroc": pooled["auroc"]}),
        },
    }
    print(one.name, json.dumps(found["largest_difference"]), flush=True)
    return found


def _at_site(source: DataSource, place: int) -> DataSource:
    return replace(source, partition=replace(source.partition, part=place))


def _told_by_all(
    sites: Sequence[Dataset], logits: Sequence[NDArray[np.float64]], outputs: Outputs, split: str
) -> dict[str, Tally]:
    """The sums of what the sites tell of a split."""
    images = [site.val if split == "val" else site.test for site in sites]
    return merged(
        told(logits_NC, one.labels, outputs, tuple(TALLIES), _LEAST_COUNT).tallies
        for logits_NC, one in zip(logits, images, strict=True)
        if len(one)
    )


def _size(name: str, tallies: dict[str, Tally]) -> int:
    return to_messages({name: tallies[name]})[name].ByteSize()


def _reference_of_all(
    logits: Sequence[NDArray[np.float64]],
    labels: Sequence[NDArray[np.int64]],
    left_out: Sequence[Sequence[int]],
    outputs: Outputs,
    at_C: NDArray[np.float64] | None,
) -> _Reference:
    """Of all sites' samples together; each class of the sites that tell of it."""
    whole, by_class = by_reference(np.concatenate(logits), np.concatenate(labels), outputs, at_C)
    for place in {place for places in left_out for place in places}:
        telling = [site for site, places in enumerate(left_out) if place not in places]
        told_NC, true = (np.concatenate([parts[site] for site in telling]) for parts in (logits, labels))
        for name, column in by_reference(told_NC, true, outputs, at_C)[1].items():
            by_class[name][place] = column[place]
    means = {name: float(np.mean([one for one in column if one is not None])) for name, column in by_class.items()}
    return {**whole, **means}, by_class


def _compared(found: dict[str, Exact], reference: _Reference, names: Sequence[str]) -> dict[str, Any]:
    whole, by_class = reference
    rows: dict[str, Any] = {}
    for name, one in found.items():
        rows[name] = {"mple": one.value, "scikit_learn": whole.get(name), "interval": one.interval}
        if one.by_class is not None:
            due = by_class.get(name) or [None] * len(names)
            intervals = one.intervals or [None] * len(names)
            rows[name]["by_class"] = {
                label: {"mple": value, "scikit_learn": theirs, "interval": interval}
                for label, value, theirs, interval in zip(names, one.by_class, due, intervals, strict=True)
            }
    return rows


def _largest(table: dict[str, Any]) -> float:
    """The largest distance from scikit-learn's value, where it has one."""
    pairs = [
        (one["mple"], one["scikit_learn"])
        for row in table.values()
        for one in (row, *row.get("by_class", {}).values())
        if one["scikit_learn"] is not None and one["mple"] is not None
    ]
    return max(abs(ours - theirs) for ours, theirs in pairs)


def _page(about: dict[str, Any]) -> str:
    lines = [
        "# Metrics beside scikit-learn's",
        "",
        f"`{about['command']}` has written this page and `metrics.json`, which has every",
        "value by class. Intervals are of 95 %.",
        "",
    ]
    for name, one in about["sets"].items():
        largest, samples = one["largest_difference"], one["samples"].items()
        lines += [
            f"## {name}",
            "",
            f"{one['about']}; test pictures: {', '.join(f'{site} {count:,}' for site, count in samples)}.",
            f"Largest difference from scikit-learn, by class included: {largest['exact']:.1e} at the sites; of pooled",
            f"AUROC {largest['pooled']:.1e}. A site's tallies take {sum(one['bytes'].values()):,} bytes.",
            "",
        ]
        if hidden := [f"{', '.join(left)} at {site}" for site, left in one["left_out"].items() if left]:
            lines += [
                f"Left out under the least count of {about['least_count']}: {'; '.join(hidden)}. Pooled F1 of",
                "such classes counts wrong answers of all sites, and right ones of those that tell.",
                "",
            ]
        lines += [
            f"| | {' | '.join(_SITES)} | pooled | scikit-learn, together |",
            "| --- |" + " ---: |" * (len(_SITES) + 2),
        ]
        for metric, row in one["pooled"].items():
            cells = [_cell(one["sites"][site][metric]) for site in _SITES]
            theirs = "" if row["scikit_learn"] is None else f"{row['scikit_learn']:.4f}"
            lines.append(f"| {metric} | {' | '.join(cells)} | {_cell(row)} | {theirs} |")
        lines.append("")
    return "\n".join(lines)


def _cell(row: dict[str, Any]) -> str:
    if row["mple"] is None:
        return ""
    if row["interval"] is None:
        return f"{row['mple']:.4f}"
    return f"{row['mple']:.4f} ({row['interval'][0]:.3f} to {row['interval'][1]:.3f})"


if __name__ == "__main__":
    main()
