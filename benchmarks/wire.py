"""What crosses the hospitals' links in whole runs, byte by byte, beside raw pixels, PNG files, theory and the papers.

    python -m benchmarks.wire [--images 2000] [--most-images 20000] [--width 1.0] [--quick] [--out results/benchmarks]
    python -m benchmarks.wire --fair [--mri FILE] [--sets cifar10 ...] [--pictures 500] [--codecs q6 ...]
        [--formats PNG ...] [--set KEY=VALUE ...] [--out results/benchmarks]

Each row is a real run: a coordinator, a compute node and the sites as processes over mutual TLS, one epoch on CIFAR-10,
each site behind relays that count what crosses its ports. Around the default (three sites, `compact`, the default
codec, `site` custody) one factor changes at a time: preset, codec, custody, sites, images a site; and some corners.
PNG is pillow's best effort on the very same pictures. Prediction: from plan and plain pictures alone. The fair table
(`benchmarks.fair_table`, `benchmarks.equal_psnr`) holds codes against files of the plain pictures at equal PSNR: what a
value takes, set by set, and all bytes of the runs of two example files beside the same pictures as files.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np

from benchmarks.equal_psnr import SETS
from benchmarks.fair_table import FairOptions, run_fair
from benchmarks.machine import RESULTS, machine
from benchmarks.picture_formats import FORMATS
from benchmarks.pictures import all_pixels, cifar, png_bytes, predicted_bits, site_data
from benchmarks.predicted_bytes import predict_bytes
from benchmarks.whole_runs import measured_run, scratch
from mple.meter.paper import count_elements
from mple.morph import PRESETS
from mple.plan import (
    Custody,
    DeliverTo,
    DeliverySettings,
    ModelSettings,
    MorphSettings,
    Precision,
    RunPlan,
    TrainingSettings,
    WireSettings,
)
from mple.report.waterfall import computed_framing
from mple.simulate.settings import SimulationSettings
from mple.wire.names import CODECS, VALUE_CODECS

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

_DEFAULT_CODEC = WireSettings().codec


_SHOWN = (
    ("codes", "data", "#4477aa"),
    ("layer", "layer", "#ee6677"),
    ("labels", "label", "#228833"),
    ("logits", "logits", "#ccbb44"),
    ("set-up, control, framing", "rest", "#bbbbbb"),
    ("HTTP/2, TLS", "transport", "#66ccee"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One run of the design."""

    preset: str = "compact"
    codec: str = _DEFAULT_CODEC
    custody: Custody = Custody.SITE
    sites: int = 3
    images: int
    """Of each site, a sixth of them for testing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One run's bytes over all sites' links, both directions; ratios are to raw pixel bytes."""

    point: Point
    raw_pixel_bytes: int
    png_bytes: int
    data_bytes: int
    layer_bytes: int
    label_bytes: int
    logits_bytes: int
    setup_bytes: int
    control_bytes: int
    framing_bytes: int
    transport_bytes: int
    """HTTP/2, TLS and its handshakes: what the relays counted beyond the ledgers' total."""
    tcp_bytes: int
    ratio: float
    """Everything that crossed over raw pixels."""
    png_ratio: float
    """Everything that crossed over the PNG files."""
    explained_share: float
    """Ledgers' total, and the HTTP/2 frames and TLS records that its messages fill, over what the relays counted."""
    bits_a_value: float
    """Measured, of codes."""
    predicted_bits_a_value: float | None
    """From the plain pictures; None where there is no prediction and the measured bits are used."""
    predicted_data_bytes: float
    predicted_layer_bytes: float
    predicted_bytes: float
    """Data, layer, labels and logits."""
    prediction_error: float
    """Measured data, layer, labels and logits over predicted ones, less 1."""
    papers_ratio: float
    """1 and the papers' N / images."""
    setup_up_bytes: int
    """Framed bytes that the site which sent most had sent before its first sample."""
    wall_s: float

    @property
    def rest_bytes(self) -> int:
        """Set-up, control, framing."""
        return self.setup_bytes + self.control_bytes + self.framing_bytes


def main() -> None:
    """Run the benchmark and write `wire.json` and `wire.png`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000, help="of each site, around which the rest varies")
    parser.add_argument("--most-images", type=int, default=20_000, help="of each site, in the largest run")
    parser.add_argument("--width", type=float, default=1.0, help="of the network; its filters make the layer's size")
    parser.add_argument("--quick", action="store_true", help="a few small runs, to see that it works")
    parser.add_argument("--runs", type=Path, help="folder to keep the runs in")
    parser.add_argument("--out", type=Path, default=RESULTS)
    fair = parser.add_argument_group("the fair table, in the place of the runs above")
    fair.add_argument("--fair", action="store_true")
    fair.add_argument("--mri", type=Path, help="archive of brain MRI; without it that set and run are left out")
    fair.add_argument("--sets", nargs="*", default=list(SETS), choices=SETS, help="weighed at equal PSNR; or none")
    fair.add_argument("--pictures", type=int, default=500, help="most of each set that are weighed")
    fair.add_argument("--codecs", nargs="*", default=[_DEFAULT_CODEC], choices=CODECS, help="of the runs; maybe none")
    fair.add_argument("--formats", nargs="*", default=[of.name for of in FORMATS if not of.sheet], help="as files")
    fair.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="over the example files' settings")
    options = parser.parse_args()
    if options.fair:
        run_fair(_fair_options(options), options.out)
        return
    if options.quick:
        options.images, options.most_images, options.width = 120, 600, 0.0625
    rows: list[Row] = []
    plan: RunPlan | None = None
    with scratch(options.runs, "wire") as folder:
        for number, point in enumerate(design(options.images, options.most_images, quick=options.quick)):
            row, made = _measure(point, options.width, folder / f"{number:02}")
            plan = plan or made
            rows.append(row)
            print(_line(row), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    about = {
        "command": f"python -m benchmarks.wire --images {options.images} --most-images {options.most_images} "
        f"--width {options.width}",
        "machine": machine(),
        "rows": [asdict(row) for row in rows],
    }
    (options.out / "wire.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    print("\n" + markdown(rows))
    if plan is not None:
        _plot(rows, plan, options.out / "wire.png")


def _fair_options(options: argparse.Namespace) -> FairOptions:
    sets = tuple(name for name in options.sets if name != "mri64" or options.mri)
    kept = (
        "--sets",
        *sets,
        f"--pictures {options.pictures}",
        "--codecs",
        *options.codecs,
        "--formats",
        *map(repr, options.formats),
    )
    mri = ("--mri FILE",) if options.mri else ()
    return FairOptions(
        command=" ".join(
            (
                "python -m benchmarks.wire --fair",
                *mri,
                *kept,
                *(f"--set {one}" for one in options.set[:1]),
                *options.set[1:],
            )
        ),
        mri=options.mri,
        sets=sets,
        pictures=options.pictures,
        steps=tuple(name for name in CODECS if name.startswith("k")),
        codecs=tuple(options.codecs),
        formats=tuple(options.formats),
        overrides=tuple(options.set),
    )


def design(images: int, most_images: int, *, quick: bool = False) -> list[Point]:
    """The runs: one factor at a time around the default, then corners; each once."""
    base = Point(images=images)
    around = [
        base,
        *(replace(base, codec=codec) for codec in VALUE_CODECS),
        *(replace(base, preset=preset) for preset in PRESETS),
        replace(base, custody=Custody.ESCROW),
        *(replace(base, sites=sites) for sites in (1, 2, 8)),
        *(replace(base, images=count) for count in (images // 4, most_images)),
    ]
    escrow = replace(base, custody=Custody.ESCROW)
    corners = [
        replace(base, codec="f32", preset="mole"),
        replace(base, codec="f32", preset="paper"),
        replace(escrow, preset="paper"),
        replace(escrow, preset="distinct"),
        replace(escrow, sites=8, images=images // 4),
        replace(escrow, codec=VALUE_CODECS[-1]),
    ]
    if quick:
        around, corners = [base, replace(base, codec="f16"), replace(base, images=most_images)], [escrow]
    return list(dict.fromkeys([*around, *corners]))


def markdown(rows: Sequence[Row]) -> str:
    """The table for docs/science/benchmarks.md: parts in percent of raw pixels."""
    head = (
        "| preset | codec | custody | sites | images a site | codes | layer | labels, logits | set-up, control, framing"
        " | HTTP/2, TLS | **all** | of PNG | bits a value (predicted) | measured over predicted | papers' formula |"
    )
    lines = [head, "|" + " --- |" * head.count(" | ") + " --- |"]
    for row in rows:
        point, raw = row.point, row.raw_pixel_bytes
        predicted = "*" if row.predicted_bits_a_value is None else f"{row.predicted_bits_a_value:.2f}"
        cells = [
            point.preset,
            point.codec,
            point.custody,
            str(point.sites),
            f"{point.images:,}",
            *(_percent(part, raw) for part in (row.data_bytes, row.layer_bytes)),
            _percent(row.label_bytes + row.logits_bytes, raw),
            _percent(row.rest_bytes, raw),
            _percent(row.transport_bytes, raw),
            f"**{_percent(row.tcp_bytes, raw)}**",
            _percent(row.tcp_bytes, row.png_bytes),
            f"{row.bits_a_value:.2f} ({predicted})",
            f"{row.prediction_error:+.2%}",
            f"{row.papers_ratio:.2%}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _measure(point: Point, width: float, folder: Path) -> tuple[Row, RunPlan]:
    settings = _settings(point, width)
    began = time.monotonic()
    run = measured_run(settings, folder)
    plan, measured = run.summary.plan, run.summary.overhead
    sites = site_data(settings)
    pixels = all_pixels(sites)
    if measured.sum("raw_pixel_bytes") != pixels.size or measured.sum("resent_samples"):
        raise RuntimeError(f"{point}: the run did not send each of these pictures once")
    values = measured.sum("images") * plan.geometry.morphed_elements
    bits = 8 * measured.sum("data_bytes") / values
    expected_bits = predicted_bits(plan, pixels)
    predicted = predict_bytes(plan, bits if expected_bits is None else expected_bits)
    payload = sum(measured.sum(f"{part}_bytes") for part in ("data", "layer", "label", "logits"))
    framing = computed_framing(folder / "ledger.sqlite", settings.sites)
    tcp, ledger = sum(crossed.total for crossed in run.crossed.values()), measured.sum("total_bytes")
    png = _png(point.sites, point.images)
    papers = count_elements(
        plan.morph.scheme(), plan.image, images=len(pixels), sites=1, filters=plan.filters, kernel=plan.model.kernel
    )
    parts = {
        f"{name}_bytes": measured.sum(f"{name}_bytes")
        for name in ("raw_pixel", "data", "layer", "label", "logits", "setup", "control", "framing")
    }
    row = Row(
        point=point,
        png_bytes=png,
        **parts,
        transport_bytes=tcp - ledger,
        tcp_bytes=tcp,
        ratio=tcp / pixels.size,
        png_ratio=tcp / png,
        explained_share=(ledger + framing.total_bytes) / tcp,
        bits_a_value=bits,
        predicted_bits_a_value=expected_bits,
        predicted_data_bytes=predicted.data,
        predicted_layer_bytes=predicted.layer,
        predicted_bytes=predicted.total,
        prediction_error=payload / predicted.total - 1,
        papers_ratio=1 + papers.quoted_ratio,
        setup_up_bytes=max(run.setup_up.values()),
        wall_s=time.monotonic() - began,
    )
    return row, plan


def _settings(point: Point, width: float) -> SimulationSettings:
    return SimulationSettings(
        sites=tuple(f"site{number:02}" for number in range(1, point.sites + 1)),
        custody=point.custody,
        data=cifar(point.images),
        morph=MorphSettings(preset=point.preset),
        wire=WireSettings(codec=point.codec),
        model=ModelSettings(width=width),
        training=TrainingSettings(epochs=1, precision=Precision.BF16),
        delivery=DeliverySettings(to=DeliverTo.NONE),  # what training costs is measured
    )


@cache
def _png(sites: int, images: int) -> int:
    return png_bytes(all_pixels(site_data(_settings(Point(sites=sites, images=images), 1.0))))


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.2f} %"


def _line(row: Row) -> str:
    point = row.point
    return (
        f"{point.preset:9} {point.codec:4} {point.custody:6} {point.sites:2} sites of {point.images:6,}: "
        f"{row.ratio:8.4f} x raw, {row.png_ratio:7.4f} x PNG, theory {row.prediction_error:+.2%}, "
        f"{row.explained_share:.2%} of TCP explained, set-up uplink {row.setup_up_bytes:,} B, {row.wall_s:.0f} s"
    )


def _plot(rows: Sequence[Row], plan: RunPlan, path: Path) -> None:
    figure, (by_codec, by_images) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    base = rows[0].point
    one_factor = [row for row in rows if replace(row.point, codec=base.codec) == base]
    _plot_codecs(by_codec, sorted(one_factor, key=lambda row: CODECS.index(row.point.codec)))
    _plot_images(by_images, rows, plan)
    figure.savefig(path, dpi=120)


def _plot_codecs(axis: Axes, rows: Sequence[Row]) -> None:
    names = [row.point.codec for row in rows]
    below = np.zeros(len(rows))
    for label, part, colour in _SHOWN:
        share = np.array([getattr(row, f"{part}_bytes") / row.raw_pixel_bytes for row in rows])
        axis.bar(names, share, bottom=below, label=label, color=colour)
        below += share
    png = rows[0].png_bytes / rows[0].raw_pixel_bytes
    axis.axhline(1.0, color="#333333", linewidth=1)
    axis.axhline(png, color="#aa3377", linewidth=1, linestyle="--", label="PNG")
    axis.set_ylabel("bytes on the links over raw pixels")
    axis.set_title(f"{rows[0].point.images:,} images a site", fontsize=9)
    axis.legend(fontsize=7)


def _plot_images(axis: Axes, rows: Sequence[Row], plan: RunPlan) -> None:
    """Predictions for any number of images, by preset, at the default codec, with the runs that were made."""
    counts = np.unique(np.geomspace(120, 20_000, 60).astype(int))
    for preset, colour in zip(PRESETS, ("#4477aa", "#228833", "#ee6677", "#ccbb44"), strict=True):
        made = [row for row in rows if row.point == replace(rows[0].point, preset=preset, images=row.point.images)]
        if not made:
            continue
        bits = made[-1].predicted_bits_a_value or made[-1].bits_a_value
        ratios = [_predicted_ratio(plan, preset, int(count), bits) for count in counts]
        axis.plot(counts, ratios, color=colour, label=preset)
        axis.plot([r.point.images for r in made], [r.ratio for r in made], "o", color=colour, markersize=4)
    papers = 1 + plan.image.elements / (len(plan.sites) * counts)
    axis.plot(counts, papers, "--", color="#999999", label="papers' 1+N/n")
    axis.axhline(1.0, color="#333333", linewidth=1)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("images a site (lines: predicted, dots: measured)")
    axis.set_ylabel("bytes over raw pixels")
    axis.legend(fontsize=7)


def _predicted_ratio(plan: RunPlan, preset: str, images: int, bits: float) -> float:
    test = round(images / 6)
    sites = tuple(replace(site, train_images=images - test, test_images=test) for site in plan.sites)
    plan = replace(plan, sites=sites, morph=MorphSettings(preset=preset))
    return predict_bytes(plan, bits).total / (len(sites) * images * plan.image.elements)


if __name__ == "__main__":
    main()
