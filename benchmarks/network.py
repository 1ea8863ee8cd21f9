"""Whole runs over lines of limited rate and given length: how long a hospital's line needs, and whether it is full.

    python -m benchmarks.network [--quick] [--only PRESET CODEC MBIT_S LATENCY_MS ...] [--out results/benchmarks]

Five nodes, each in a network namespace of its own, over mutual TLS; between each of three sites and the rest a line
whose uplink and downlink carry 2, 10, 50 or 200 Mbit/s, 5 or 40 ms long each way (`benchmarks.lines`; Linux as root,
elsewhere nothing is measured and the reason said). The network has an eighth of VGG-16's width, so that the line and
not the trainer counts, and with it layers have an eighth of their size. One epoch of CIFAR-10, fewer pictures where the
line is slow; the trained network is not delivered. Beside them the same pictures as plain PNG files over the same
lines (`benchmarks.picture_feed`).

Times are of the site that took longest, by the ledgers: set-up from its first word to the first request for samples,
feeding from there to the last sample that the compute node has. Bytes on the line are Ethernet frames.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sqlite3
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib as mpl
from rich.console import Console

from benchmarks.lines import Carried, Line, network, unavailable
from benchmarks.machine import RESULTS, machine
from benchmarks.picture_feed import LEDGER as PNG_LEDGER
from benchmarks.picture_feed import feed
from benchmarks.pictures import cifar
from benchmarks.whole_runs import scratch
from mple.meter import SAMPLE_KINDS
from mple.plan import DeliverTo, DeliverySettings, ModelSettings, MorphSettings, TrainingSettings, WireSettings
from mple.records.run_folder import COMPUTE
from mple.simulate.laying_out import lay_out
from mple.simulate.runner import run_nodes, undisturbed
from mple.simulate.settings import MachineSettings, SimulationSettings

mpl.use("Agg")
from matplotlib import pyplot as plt

PNG = "png"
"""In the place of a preset: plain files."""
_ASKED_FOR = 10_000
"""Pictures of a site that the table tells the time for."""
_IMAGES = {2.0: 480, 10.0: 2400, 50.0: 6000, 200.0: 6000}
"""Of each site, by the line's rate."""
_KINDS = ", ".join(f"'{kind}'" for kind in SAMPLE_KINDS)
_NS = 1e9


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One run of the design."""

    preset: str
    codec: str
    mbit_s: float
    latency_ms: float
    images: int
    """Of each of three sites, a sixth of them for testing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fed:
    """How one site's samples reached the compute node, by the compute node's clock and ledger."""

    setup_s: float
    feed_s: float
    framed_bytes: int
    """Of messages with samples."""
    samples: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One run; of sites the one that took longest."""

    point: Point
    setup_s: float
    """0 for plain files."""
    feed_s: float
    all_s: float
    """From a site's first word to its last sample."""
    asked_for_s: float
    """The same for 10,000 pictures: feeding in proportion."""
    bytes_a_picture: float
    """Of messages with samples, gRPC's prefix included."""
    goodput_share: float
    """Of the line's rate, while feeding."""
    up_bytes: int
    """A site's, on the line."""
    down_bytes: int
    ledger_bytes: int
    """A site's, both ways, as its ledger has them."""
    dropped: int
    """Packets, of all lines."""
    resent: int
    """Segments that the sites sent again."""
    train_s: float | None = None
    """From the first step to the last score, waiting included; None for plain files."""
    idle_s: Mapping[str, float] | None = None
    """In which the trainer waited, by cause."""


def main() -> None:
    """Run the benchmark and write `network.json` and `network.png`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="six short runs, to see that it works")
    parser.add_argument("--only", nargs=4, action="append", help="preset, codec, Mbit/s and latency in ms of one run")
    parser.add_argument("--images", type=int, help="of each site, instead of a number for each rate")
    parser.add_argument("--runs", type=Path, help="folder to keep the runs in")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if reason := unavailable():
        print(f"skipped: {reason}")
        return
    points = _design(options.quick)
    if options.only:
        points = [_point(preset, codec, float(rate), float(latency)) for preset, codec, rate, latency in options.only]
    if options.images:
        points = [Point(**{**asdict(point), "images": options.images}) for point in points]
    rows = []
    with scratch(options.runs, "network") as folder:
        for number, point in enumerate(points):
            rows.append(measured(point, folder / f"{number:02}"))
            print(_said(rows[-1]), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    command = f"python -m benchmarks.network{' --quick' if options.quick else ''}"
    about = {"command": command, "machine": machine(), "rows": [asdict(row) for row in rows]}
    (options.out / "network.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    print("\n" + markdown(rows))
    _plot(rows, options.out / "network.png")


def markdown(rows: Sequence[Row]) -> str:
    """The table for docs/science/benchmarks.md."""
    lines = [
        "| Mbit/s | ms | | pictures a site | set-up, s | feeding, s | of the rate | **10,000 pictures** | "
        "trainer waits | line up, MB | down | over ledger | dropped, resent |",
        "|" + " --- |" * 13,
    ]
    for row in rows:
        point = row.point
        name = "PNG files" if point.preset == PNG else f"`{point.preset}`, {point.codec}"
        waits = "" if row.idle_s is None else f"{sum(row.idle_s.values()):.1f} s of {row.train_s:.1f}"
        lines.append(
            f"| {point.mbit_s:g} | {point.latency_ms:g} | {name} | {point.images:,} | {row.setup_s:.1f} | "
            f"{row.feed_s:.1f} | {row.goodput_share:.0%} | **{_time(row.asked_for_s)}** | {waits} | "
            f"{row.up_bytes / 1e6:.1f} | {row.down_bytes / 1e6:.2f} | "
            f"{(row.up_bytes + row.down_bytes) / row.ledger_bytes:.3f} | {row.dropped:,}, {row.resent:,} |"
        )
    return "\n".join(lines)


def measured(point: Point, out: Path) -> Row:
    """Lay a run out, run it over lines and sum it up.

    Raises RuntimeError: no namespaces, a node failed, or the run was interrupted.
    """
    settings = _settings(point)
    with network(settings.sites, Line(mbit_s=point.mbit_s, latency_ms=point.latency_ms)) as lines:
        listen = (f"{lines.address(0)}:7400", f"{lines.address(1)}:7401")
        folder = lay_out(out, settings, listen=listen)
        if point.preset == PNG:
            feed(folder, around=lines.around)
            fed = {site: _fed(folder.state(COMPUTE) / PNG_LEDGER, site) for site in folder.sites}
            ledgers = [folder.state(site) / PNG_LEDGER for site in folder.sites]
            return summed_up(point, fed, lines.carried(), _sites_bytes(ledgers))
        driver = undisturbed(folder, settings, lines.around)
        summary = run_nodes(folder, settings, Console(file=io.StringIO()), plain=True, driver=driver, tables=False)
        if summary is None:
            raise RuntimeError("the run was interrupted")
        merged = folder.path / "ledger.sqlite"
        fed = {site: _fed(merged, site) for site in folder.sites}
        outcome = summary.outcome
        return summed_up(
            point,
            fed,
            lines.carried(),
            _sites_bytes([merged]),
            train_s=outcome.train_seconds,
            idle_s=outcome.idle_seconds_by_cause,
        )


def summed_up(
    point: Point,
    fed: Mapping[str, Fed],
    carried: Mapping[str, Carried],
    ledger_bytes: int,
    *,
    train_s: float | None = None,
    idle_s: Mapping[str, float] | None = None,
) -> Row:
    """A run's row, from what each site has fed and each line carried; `ledger_bytes` are of all sites, both ways."""
    slowest = max(fed.values(), key=lambda one: one.setup_s + one.feed_s)
    a_picture = slowest.feed_s / slowest.samples
    return Row(
        point=point,
        setup_s=slowest.setup_s,
        feed_s=slowest.feed_s,
        all_s=slowest.setup_s + slowest.feed_s,
        asked_for_s=slowest.setup_s + a_picture * _ASKED_FOR,
        bytes_a_picture=slowest.framed_bytes / slowest.samples,
        goodput_share=8 * slowest.framed_bytes / slowest.feed_s / (1e6 * point.mbit_s),
        up_bytes=round(statistics.mean(one.up_bytes for one in carried.values())),
        down_bytes=round(statistics.mean(one.down_bytes for one in carried.values())),
        ledger_bytes=round(ledger_bytes / len(fed)),
        dropped=sum(one.dropped for one in carried.values()),
        resent=sum(one.resent for one in carried.values()),
        train_s=train_s,
        idle_s=idle_s,
    )


def _design(quick: bool) -> list[Point]:
    if quick:
        points = [_point(preset, codec, 10, latency) for latency in (5, 40) for preset, codec in _BESIDE]
        return [Point(**{**asdict(point), "images": 600}) for point in points]
    points = [
        _point(preset, codec, rate, latency)
        for rate in _IMAGES
        for latency in (5, 40)
        for preset, codec in _BESIDE[: 2 if rate < 10 else None]
    ]
    others = [("compact", codec, 10) for codec in ("q8", "q4")]
    others += [("distinct", "q6", 10), *((preset, "q6", 50) for preset in ("distinct", "paper", "mole"))]
    return points + [_point(*one, 5) for one in others]


_BESIDE = ((PNG, PNG), ("compact", "q6"), ("compact", "f32"))


def _point(preset: str, codec: str, mbit_s: float, latency_ms: float) -> Point:
    images = _IMAGES[max(rate for rate in _IMAGES if rate <= max(mbit_s, min(_IMAGES)))]
    return Point(preset=preset, codec=codec, mbit_s=mbit_s, latency_ms=latency_ms, images=images)


def _settings(point: Point) -> SimulationSettings:
    plain = point.preset == PNG
    return SimulationSettings(
        data=cifar(point.images),
        morph=MorphSettings() if plain else MorphSettings(preset=point.preset),
        wire=WireSettings() if plain else WireSettings(codec=point.codec),
        model=ModelSettings(width=0.125),
        training=TrainingSettings(epochs=1),
        delivery=DeliverySettings(to=DeliverTo.NONE),
        machine=MachineSettings(trainer_threads=1),
    )


def _fed(ledger: Path, site: str) -> Fed:
    """What the ledger of the compute node, alone or merged with the sites', tells of a site."""
    with contextlib.closing(sqlite3.connect(ledger)) as opened:
        (joined_ns,) = opened.execute(
            "SELECT MIN(time_unix_ns) FROM messages WHERE node = ?", (f"site/{site}",)
        ).fetchone()
        (asked_ns,) = opened.execute(
            "SELECT MIN(time_unix_ns) FROM messages WHERE node = ? AND peer = ? AND direction = 'sent' "
            "AND kind = 'request'",
            (f"compute/{COMPUTE}", f"site/{site}"),
        ).fetchone()
        last_ns, framed, samples = opened.execute(
            "SELECT MAX(time_unix_ns), SUM(framed_bytes), SUM(samples) FROM messages WHERE node = ? AND peer = ? "
            f"AND direction = 'received' AND kind IN ({_KINDS})",
            (f"compute/{COMPUTE}", f"site/{site}"),
        ).fetchone()
    return Fed(
        setup_s=0.0 if joined_ns is None else (asked_ns - joined_ns) / _NS,
        feed_s=(last_ns - asked_ns) / _NS,
        framed_bytes=framed,
        samples=samples,
    )


def _sites_bytes(ledgers: Sequence[Path]) -> int:
    found = 0
    for ledger in ledgers:
        with contextlib.closing(sqlite3.connect(ledger)) as opened:
            (framed,) = opened.execute("SELECT SUM(framed_bytes) FROM messages WHERE node LIKE 'site/%'").fetchone()
        found += framed
    return found


def _said(row: Row) -> str:
    point = row.point
    idle = "" if row.idle_s is None else f", trainer waits {sum(row.idle_s.values()):.1f} of {row.train_s:.1f} s"
    return (
        f"{point.preset:8} {point.codec:3} {point.mbit_s:3g} Mbit/s {point.latency_ms:2g} ms, "
        f"{point.images:,} pictures: "
        f"set-up {row.setup_s:.1f} s, feeding {row.feed_s:.2f} s at {row.goodput_share:.0%} of the rate, "
        f"10,000 in {_time(row.asked_for_s)}{idle}; resent {row.resent}"
    )


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _plot(rows: Sequence[Row], path: Path) -> None:
    figure, (times, shares) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    series: dict[tuple[str, str, float], list[Row]] = {}
    for row in rows:
        series.setdefault((row.point.preset, row.point.codec, row.point.latency_ms), []).append(row)
    for (preset, codec, latency), of in series.items():
        of = sorted(of, key=lambda row: row.point.mbit_s)
        label = "PNG files" if preset == PNG else f"{preset}, {codec}"
        rates = [row.point.mbit_s for row in of]
        style = {"label": f"{label}, {latency:g} ms", "marker": "o" if latency < 20 else "s"}
        style |= {"linestyle": "-" if latency < 20 else "--", "color": _COLOURS.get((preset, codec), "#888888")}
        times.loglog(rates, [row.asked_for_s for row in of], **style)  # type: ignore[arg-type]
        shares.semilogx(rates, [row.goodput_share for row in of], **style)  # type: ignore[arg-type]
    times.set_ylabel("s for 10,000 pictures a site")
    shares.set_ylabel("part of the line's rate while feeding")
    shares.set_ylim(0, 1)
    rates = sorted({row.point.mbit_s for row in rows})
    for axes in (times, shares):
        axes.set_xlabel("Mbit/s of each site's line")
        axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
        axes.minorticks_off()
    figure.legend(*shares.get_legend_handles_labels(), fontsize=6, loc="outside right upper")
    figure.savefig(path, dpi=120)


_COLOURS = {
    (PNG, PNG): "#333333",
    ("compact", "q6"): "#4477aa",
    ("compact", "f32"): "#ee6677",
    ("distinct", "q6"): "#228833",
    ("paper", "q6"): "#ccbb44",
    ("mole", "q6"): "#66ccee",
}


if __name__ == "__main__":
    main()
