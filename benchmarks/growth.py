"""How a whole run grows: with the pictures' side, with the number of sites, with the number of images.

    python -m benchmarks.growth [side|sites|images ...] [--quick] [--out results/benchmarks]

Each point is a real run over mutual TLS, one epoch: `side` with 28 to 224 pixels and a narrow network, `sites` with 1
to 32 site processes and VGG-16 at full width (so that layers are of full size), `images` with 1,000 to 60,000 and a
narrow network. Memory of every process is looked at from outside; what the compute node grows by with each site is the
slope of a line through its peaks. Pictures are CIFAR-10's, resized (bicubic) for `side`: no detail comes in, so that
larger ones are smoother than photographs and take fewer bits a value; nothing else about them is easier.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np

from benchmarks.machine import RESULTS, machine
from benchmarks.pictures import cifar, upscaled_cifar
from benchmarks.whole_runs import MeasuredRun, measured_run, scratch
from mple.data import DataSource
from mple.plan import DeliverTo, DeliverySettings, ModelSettings, Precision, TrainingSettings
from mple.records.run_folder import COMPUTE, COORDINATOR
from mple.simulate.settings import SimulationSettings

mpl.use("Agg")
from matplotlib import pyplot as plt

_SIDES_PX, _SITES, _IMAGES = (28, 32, 64, 128, 224), (1, 2, 4, 8, 16, 32), (1000, 3000, 10_000, 30_000, 60_000)
_NARROW = 0.0625
_MIB = 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class Grown:
    """One run."""

    side_px: int
    sites: int
    images: int
    """Of all sites."""
    width: float
    raw_mib: float
    ratio: float
    """Everything that crossed the sites' links, TLS included, over raw pixels."""
    wall_s: float
    feed_s: float
    """From the first sample that a site sent to the last."""
    train_s: float
    first_layer_ns: float
    """Of decoding and first layer, for each pixel (not value) of each image that was trained on or scored."""
    compute_rss_mib: float
    compute_pss_mib: float
    coordinator_rss_mib: float
    site_rss_mib: float
    """Median over the sites."""
    site_rss_most_mib: float
    site_pss_mib: float
    """Median over the sites; falls with their number, since they share the libraries' pages."""
    site_threads: int


def main() -> None:
    """Run the benchmark and write `growth.json` and `growth.png`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("series", nargs="*", help=f"which of {', '.join(_SERIES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="two small points of each, to see that it works")
    parser.add_argument("--runs", type=Path, help="folder to keep the runs in")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    unknown = set(options.series) - set(_SERIES)
    if unknown:
        parser.error(f"no series {', '.join(sorted(unknown))}; there are {', '.join(_SERIES)}")
    path = options.out / "growth.json"
    known = json.loads(path.read_text(encoding="utf-8"))["series"] if options.series and path.exists() else {}
    series = {name: [Grown(**point) for point in points] for name, points in known.items()}
    with scratch(options.runs, "growth") as folder:
        for name in options.series or _SERIES:
            series[name] = []
            for number, (source, width, settings) in enumerate(_SERIES[name](folder, options.quick)):
                series[name].append(_measure(source, width, settings, folder / f"{name}-{number}"))
                print(_line(name, series[name][-1]), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    about = {
        "command": "python -m benchmarks.growth",
        "machine": machine(),
        "compute_growth_mib_a_site": growth_a_site(series.get("sites", ())),
        "series": {name: [asdict(point) for point in points] for name, points in series.items()},
    }
    path.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    print("\n" + markdown(series))
    _plot(series, options.out / "growth.png")


def growth_a_site(points: Sequence[Grown]) -> float | None:
    """MiB that the compute node's peak RSS grows by with each site: slope of a line; None below two points."""
    if len({point.sites for point in points}) < 2:
        return None
    slope, _ = np.polyfit([point.sites for point in points], [point.compute_rss_mib for point in points], 1)
    return float(slope)


def markdown(series: Mapping[str, Sequence[Grown]]) -> str:
    """The tables for docs/science/benchmarks.md."""
    lines = []
    for name, points in series.items():
        lines += [
            f"**{name}**\n",
            "| side | sites | images | raw, MiB | all bytes over raw | first layer, ns a pixel | training, s | "
            "whole, s | compute node, MiB | coordinator, MiB | a site, MiB (PSS) |",
            "|" + " --- |" * 11,
        ]
        for point in points:
            lines.append(
                f"| {point.side_px} | {point.sites} | {point.images:,} | {point.raw_mib:.1f} | {point.ratio:.3f} | "
                f"{point.first_layer_ns:.0f} | {point.train_s:.1f} | {point.wall_s:.1f} | "
                f"{point.compute_rss_mib:.0f} | {point.coordinator_rss_mib:.0f} | "
                f"{point.site_rss_mib:.0f} ({point.site_pss_mib:.0f}) |"
            )
        lines.append("")
    slope = growth_a_site(series.get("sites", ()))
    if slope is not None:
        lines.append(f"The compute node's peak memory grows by {slope:.1f} MiB with each site.")
    return "\n".join(lines)


_Point = tuple[DataSource, float, tuple[str, ...]]


def _sides(folder: Path, quick: bool) -> Iterator[_Point]:
    for side_px in (28, 48) if quick else _SIDES_PX:
        images = 120 if quick else 600
        yield upscaled_cifar(side_px, images, folder / f"pictures-{side_px}.npz"), _NARROW, _names(3)


def _site_counts(_folder: Path, quick: bool) -> Iterator[_Point]:
    for count in (1, 4) if quick else _SITES:
        yield cifar(24 if quick else 96), _NARROW if quick else 1.0, _names(count)


def _image_counts(_folder: Path, quick: bool) -> Iterator[_Point]:
    for images in (120, 600) if quick else _IMAGES:
        yield cifar(images // 3), _NARROW, _names(3)


_SERIES: dict[str, Callable[[Path, bool], Iterator[_Point]]] = {
    "side": _sides,
    "sites": _site_counts,
    "images": _image_counts,
}


def _names(count: int) -> tuple[str, ...]:
    return tuple(f"site{number:02}" for number in range(1, count + 1))


def _measure(source: DataSource, width: float, sites: tuple[str, ...], folder: Path) -> Grown:
    settings = SimulationSettings(
        sites=sites,
        data=source,
        model=ModelSettings(width=width),
        training=TrainingSettings(epochs=1, precision=Precision.BF16),
        delivery=DeliverySettings(to=DeliverTo.NONE),  # what training costs is measured
    )
    began = time.monotonic()
    run = measured_run(settings, folder)
    return _grown(run, width, time.monotonic() - began)


def _grown(run: MeasuredRun, width: float, wall_s: float) -> Grown:
    summary, uses = run.summary, run.uses
    plan, whole = summary.plan, summary.overhead
    of_sites = [uses[site.name] for site in plan.sites]
    pixels = whole.sum("images") * plan.height * plan.width
    return Grown(
        side_px=plan.height,
        sites=len(plan.sites),
        images=whole.sum("images"),
        width=width,
        raw_mib=whole.sum("raw_pixel_bytes") / _MIB,
        ratio=sum(crossed.total for crossed in run.crossed.values()) / whole.sum("raw_pixel_bytes"),
        wall_s=wall_s,
        feed_s=run.feed_s,
        train_s=summary.outcome.train_seconds,
        first_layer_ns=1e9 * summary.outcome.augconv_seconds / pixels,
        compute_rss_mib=uses[COMPUTE].peak_rss_mib,
        compute_pss_mib=uses[COMPUTE].peak_pss_mib,
        coordinator_rss_mib=uses[COORDINATOR].peak_rss_mib,
        site_rss_mib=statistics.median(use.peak_rss_mib for use in of_sites),
        site_rss_most_mib=max(use.peak_rss_mib for use in of_sites),
        site_pss_mib=statistics.median(use.peak_pss_mib for use in of_sites),
        site_threads=max(use.threads for use in of_sites),
    )


def _line(name: str, point: Grown) -> str:
    return (
        f"{name:6} {point.side_px:3} px, {point.sites:2} sites, {point.images:6,} images: {point.ratio:.3f} x raw, "
        f"fed in {point.feed_s:.1f} s, {point.wall_s:.0f} s in all; MiB: compute {point.compute_rss_mib:.0f}, "
        f"coordinator {point.coordinator_rss_mib:.0f}, site {point.site_rss_mib:.0f} (PSS {point.site_pss_mib:.0f})"
    )


def _plot(series: Mapping[str, Sequence[Grown]], path: Path) -> None:
    figure, axes = plt.subplots(1, len(series), figsize=(3.7 * len(series), 3), layout="constrained", squeeze=False)
    across = {"side": ("side_px", "side, pixels"), "sites": ("sites", "sites"), "images": ("images", "images")}
    for axis, (name, points) in zip(axes[0], series.items(), strict=True):
        field, label = across[name]
        places = [getattr(point, field) for point in points]
        for what, colour in (("compute_rss", "#4477aa"), ("coordinator_rss", "#ccbb44"), ("site_rss", "#ee6677")):
            axis.plot(places, [getattr(p, f"{what}_mib") for p in points], "o-", color=colour, label=what[:-4])
        axis.plot(places, [point.site_pss_mib for point in points], "o:", color="#ee6677", label="site, PSS")
        axis.set_xscale("log", base=2 if name != "images" else 10)
        axis.set_xticks(places, [f"{place:,}" for place in places])
        axis.minorticks_off()
        axis.set_xlabel(label)
        axis.set_ylim(bottom=0)
        axis.set_ylabel("peak memory, MiB")
        axis.legend(fontsize=7)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
