"""All bytes of whole runs beside picture files of the plain pictures over the same channel, at equal PSNR.

`python -m benchmarks.wire --fair` makes it. A run is that of an example file; its bytes are what relays count at its
sites, TLS and handshakes included, the delivered network told apart. Then the very same pictures and labels cross as
files of each format, by the product's own channel and framing (`benchmarks.picture_feed`), at the setting whose PSNR is
that of the run's codes or, where a format does not get there, at its finest.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import equal_psnr
from benchmarks.coded_pictures import FITTED_TO, site_coding
from benchmarks.coded_pictures import measured as measured_codes
from benchmarks.machine import machine
from benchmarks.picture_feed import LEDGER, feed
from benchmarks.picture_formats import FORMATS, PictureFormat, Setting, measured
from benchmarks.pictures import all_pixels, site_data
from benchmarks.whole_runs import crossed_by, measured_run, relayed, scratch
from mple.data.normalise import normalise
from mple.plan import WireSettings, read_settings
from mple.report.waterfall import link_framing
from mple.simulate.laying_out import lay_out
from mple.simulate.settings import SimulationSettings

_RUNS = {"CIFAR-10": Path("examples/cifar10.toml"), "brain MRI": Path("examples/brain_mri.toml")}
_MRI = "brain MRI"
_SAMPLE = 400
"""Pictures that a format's setting is chosen on."""
_MORPHED = "morphed pictures"


@dataclass(frozen=True, kw_only=True, slots=True)
class Crossing:
    """One way to bring the pictures of all sites to the compute node; bytes of all sites' links, both directions."""

    run: str
    """Of the example file."""
    sites: tuple[int, ...]
    """Pictures of each."""
    what: str
    setting: str
    psnr_db: float | None
    """None: without any error."""
    raw_pixel_bytes: int
    codes_bytes: int
    """Codes, or files."""
    label_bytes: int = 0
    layer_bytes: int = 0
    basis_bytes: int = 0
    logits_bytes: int = 0
    rest_bytes: int = 0
    """Set-up, control, framing."""
    transport_bytes: int
    """HTTP/2, TLS and its handshakes."""
    network_bytes: int = 0
    """The delivered network and what carries it, not in the sums."""
    worst_ratio: float
    """`ratio` of the site for which it is largest."""
    test_accuracy: float | None = None

    @property
    def all_bytes(self) -> int:
        """Everything but the delivered network."""
        parts = (self.codes_bytes, self.label_bytes, self.layer_bytes, self.basis_bytes, self.logits_bytes)
        return sum(parts) + self.rest_bytes + self.transport_bytes

    @property
    def ratio(self) -> float:
        """Of it to raw pixels."""
        return self.all_bytes / self.raw_pixel_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class FairOptions:
    """What is measured."""

    command: str
    mri: Path | None
    """Archive of brain MRI; without it that set and run are left out."""
    sets: tuple[str, ...]
    """That are weighed at equal PSNR."""
    pictures: int
    """Most of each."""
    steps: tuple[str, ...]
    """Our codecs that make a curve, from fine to coarse."""
    codecs: tuple[str, ...]
    """Of the runs; files are as exact as the first. Without any, nothing is run."""
    formats: tuple[str, ...]
    """That cross in each run's place."""
    overrides: tuple[str, ...] = ()
    """Of the examples' settings, `section.key=value`."""


def run_fair(options: FairOptions, out: Path) -> None:
    """Both parts, as far as they are asked for: `equal_psnr.json` and its plot, and `wire_fair.json`."""
    out.mkdir(parents=True, exist_ok=True)
    about = {
        "command": options.command,
        "machine": machine(),
        "formats": {name: version(name) for name in ("pillow", "imagecodecs")},
    }
    weighed = []
    for name, pixels_NCHW in equal_psnr.picture_sets(options.sets, options.mri).items():
        weighed.append(equal_psnr.weigh(name, pixels_NCHW, options.pictures, options.steps))
        print(equal_psnr.markdown(weighed[-1:]) + "\n", flush=True)
    if weighed:
        found = {**about, "targets_db": equal_psnr.TARGETS_DB, "sets": [asdict(one) for one in weighed]}
        (out / "equal_psnr.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(equal_psnr.markdown(weighed) + "\n", flush=True)
        equal_psnr.plot(weighed, out / "equal_psnr.png")
    runs = []
    for name, file in _RUNS.items():
        mri = options.mri if name == _MRI else None
        if options.codecs and (name != _MRI or mri):
            overrides = options.overrides
            runs.append((name, [example(file, codec, overrides=overrides, mri=mri) for codec in options.codecs]))
    if runs:
        with scratch(None, "fair") as folder:
            rows = crossings(runs, options.formats, folder)
        crossed = {**about, "runs": [{**asdict(row), "all_bytes": row.all_bytes, "ratio": row.ratio} for row in rows]}
        (out / "wire_fair.json").write_text(json.dumps(crossed, indent=1) + "\n", encoding="utf-8")
        print(markdown(rows))


def example(file: Path, codec: str, *, overrides: Sequence[str] = (), mri: Path | None = None) -> SimulationSettings:
    """The settings of an example with another codec."""
    paths = [] if mri is None else [f"data.path={mri.absolute()}"]
    return read_settings(SimulationSettings, file, [f"wire.codec={codec}", *paths, *overrides])


def cross_morphed(name: str, settings: SimulationSettings, folder: Path) -> Crossing:
    """Run it.

    Raises as `benchmarks.whole_runs.measured_run`; RuntimeError: samples were sent more than once.
    """
    run = measured_run(settings, folder)
    whole = run.summary.overhead
    if whole.sum("resent_samples"):
        raise RuntimeError(f"{name}: samples were sent once more; its bytes say nothing")
    network = whole.sum("network_bytes")
    around = _carrying(folder / "ledger.sqlite", "network") - network
    tcp = sum(crossed.total for crossed in run.crossed.values())
    pixels = all_pixels(site_data(settings))
    coding = site_coding(settings.wire.codec, normalise(pixels[:FITTED_TO], settings.normalisation))
    _, psnr_db = measured_codes(coding, _some(pixels))
    parts = {f"{one}_bytes": whole.sum(f"{one}_bytes") for one in ("label", "layer", "basis", "logits")}
    network_of = {site.name: site.network_bytes * (1 + around / max(1, network)) for site in whole.sites}
    return Crossing(
        run=name,
        sites=tuple(site.images for site in whole.sites),
        what=_MORPHED,
        setting=settings.wire.codec,
        psnr_db=psnr_db,
        raw_pixel_bytes=whole.sum("raw_pixel_bytes"),
        codes_bytes=whole.sum("data_bytes"),
        **parts,
        rest_bytes=whole.sum("setup_bytes") + whole.sum("control_bytes") + whole.sum("framing_bytes"),
        transport_bytes=tcp - whole.sum("total_bytes") - around,
        network_bytes=network + around,
        worst_ratio=max(
            (run.crossed[site.name].total - network_of[site.name]) / site.raw_pixel_bytes for site in whole.sites
        ),
        test_accuracy=run.summary.scores.get("accuracy"),
    )


def cross_as_files(
    name: str, settings: SimulationSettings, of: PictureFormat, target_db: float, folder: Path
) -> Crossing:
    """Send the same pictures as files. Raises RuntimeError: a process failed."""
    data = site_data(settings)
    pixels = all_pixels(data)
    setting, psnr_db = setting_at(of, target_db, _some(pixels))
    run = lay_out(folder, settings)
    with relayed(run) as relays:
        feed(run, of, setting)
        crossed = {site: crossed_by(pair).total for site, pair in relays.items()}
    sums = [_sums(run.state(site) / LEDGER) for site in run.sites]
    codes, labels, ledger = (sum(column) for column in zip(*sums, strict=True))
    raw = [all_pixels([one]).size for one in data]
    return Crossing(
        run=name,
        sites=tuple(sum(len(split) for split in (one.train, one.val, one.test)) for one in data),
        what=of.name,
        setting=str(dict(setting)),
        psnr_db=psnr_db,
        raw_pixel_bytes=sum(raw),
        codes_bytes=codes,
        label_bytes=labels,
        rest_bytes=ledger - codes - labels,
        transport_bytes=sum(crossed.values()) - ledger,
        worst_ratio=max(crossed[site] / size for site, size in zip(run.sites, raw, strict=True)),
    )


def setting_at(of: PictureFormat, target_db: float, pixels_NCHW: NDArray[np.uint8]) -> tuple[Setting, float | None]:
    """The cheapest setting of all curves with that PSNR or more, to a whole step of quality; else the finest."""
    if of.lossless:
        found = [(measured(of, curve[0], pixels_NCHW)[0], curve[0]) for curve in of.curves]
        return min(found, key=lambda one: one[0])[1], None
    reached: list[tuple[float, Setting, float]] = []
    finest: list[tuple[float, Setting]] = []
    for curve in of.curves:
        bits, psnr_db = measured(of, curve[0], pixels_NCHW)
        finest.append((psnr_db, curve[0]))
        if psnr_db < target_db:
            continue
        fine, best = curve[0], (bits, curve[0], psnr_db)
        for coarse in curve[1:]:
            bits, psnr_db = measured(of, coarse, pixels_NCHW)
            if psnr_db < target_db:
                break
            fine, best = coarse, (bits, coarse, psnr_db)
        else:
            coarse = fine
        for between in _between(fine, coarse):
            bits, psnr_db = measured(of, between, pixels_NCHW)
            if psnr_db < target_db:
                break
            best = (bits, between, psnr_db)
        reached.append(best)
    if reached:
        _, setting, psnr_db = min(reached, key=lambda one: one[0])
        return setting, psnr_db
    psnr_db, setting = max(finest, key=lambda one: one[0])
    return setting, psnr_db


def _between(fine: Setting, coarse: Setting) -> list[Setting]:
    """From fine to coarse, without the ends: every whole quality, or eight distances."""
    (name,) = [name for name in fine if fine[name] != coarse[name]] or ["quality"]
    high, low = fine[name], coarse[name]
    if isinstance(high, int) and isinstance(low, int):
        return [{**fine, name: value} for value in range(high - 1, low, -1)]
    assert isinstance(high, float) and isinstance(low, float)
    return [{**fine, name: round(high + (low - high) * part / 8, 3)} for part in range(1, 8)]


def markdown(rows: Sequence[Crossing]) -> str:
    """The table: parts in percent of raw pixels."""
    head = (
        "| run | what crosses | PSNR, dB | codes or files | labels | layers | basis | logits | set-up, control, framing"
    )
    head += " | HTTP/2, TLS | **all** | site that pays most | delivered network |"
    lines = [head, "|" + " --- |" * head.count(" | ") + " --- |"]
    for row in rows:
        parts = (row.codes_bytes, row.label_bytes, row.layer_bytes, row.basis_bytes, row.logits_bytes)
        cells = [
            row.run,
            f"{row.what}, {row.setting}" if row.what == _MORPHED else row.what,
            "exact" if row.psnr_db is None else f"{row.psnr_db:.1f}",
            *(_percent(part, row) for part in (*parts, row.rest_bytes, row.transport_bytes)),
            f"**{_percent(row.all_bytes, row)}**",
            f"{100 * row.worst_ratio:.2f} %",
            _percent(row.network_bytes, row),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def crossings(
    runs: Sequence[tuple[str, Sequence[SimulationSettings]]], formats: Sequence[str], folder: Path
) -> list[Crossing]:
    """Each run with each of its codecs, then its pictures in the formats at the PSNR of the first codec."""
    rows: list[Crossing] = []
    for name, codecs in runs:
        ours = []
        for settings in codecs:
            ours.append(cross_morphed(name, settings, folder / f"{name}-{settings.wire.codec}"))
            print(_line(ours[-1]), flush=True)
        rows += ours
        target_db = ours[0].psnr_db or 99.0
        plain = replace(codecs[0], wire=WireSettings())
        for of in FORMATS:
            if of.name in formats and not of.sheet and not of.needs():
                rows.append(cross_as_files(name, plain, of, target_db, folder / f"{name}-{of.name.replace(' ', '-')}"))
                print(_line(rows[-1]), flush=True)
    return rows


def _line(row: Crossing) -> str:
    exact = "exact" if row.psnr_db is None else f"{row.psnr_db:.2f} dB"
    return f"{row.run}: {row.what}, {row.setting}, {exact}: {row.ratio:.4f} of raw, worst site {row.worst_ratio:.4f}"


def _percent(part: float, row: Crossing) -> str:
    return f"{100 * part / row.raw_pixel_bytes:.2f} %"


def _some(pixels_NCHW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels_NCHW[np.unique(np.linspace(0, len(pixels_NCHW) - 1, _SAMPLE).round().astype(int))]


def _carrying(ledger: Path, kind: str) -> int:
    """Bytes of a kind's messages in the sites' ledgers, with the HTTP/2 frames and TLS records that they fill."""
    with contextlib.closing(sqlite3.connect(ledger)) as opened:
        query = (
            "SELECT framed_bytes, COUNT(*) FROM messages WHERE node LIKE 'site/%' AND kind = ? GROUP BY framed_bytes"
        )
        messages = opened.execute(query, (kind,)).fetchall()
    return sum(size * count for size, count in messages) + link_framing(messages).total_bytes


def _sums(ledger: Path) -> tuple[int, int, int]:
    """Files, labels and all framed bytes in a site's ledger."""
    with contextlib.closing(sqlite3.connect(ledger)) as opened:
        query = "SELECT SUM(payload_bytes), SUM(label_bytes), SUM(framed_bytes) FROM messages"
        payload, labels, framed = opened.execute(query).fetchone()
    return int(payload), int(labels), int(framed)
