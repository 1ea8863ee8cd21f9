"""The overhead as steps from the raw pixels to all that crossed a site's link, each beginning where the last one ended.

What the ledgers counted comes first; the two last steps, HTTP/2 and TLS, are computed (`link_framing`) and say so.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mple.meter import Overhead, SiteOverhead
from mple.report.link_framing import LinkFraming, link_framing

COUNTED = {
    "data": ("morphed pictures", "data"),
    "label": ("labels", "rest"),
    "layer": ("augmented layer", "layer"),
    "logits": ("logits", "rest"),
    "setup": ("set-up", "rest"),
    "control": ("control", "rest"),
    "framing": ("gRPC prefixes", "rest"),
}
"""Parts that the ledgers count: what they are, and how they are drawn."""


class StepKind(StrEnum):
    """How a step is drawn."""

    RAW = "raw"
    DATA = "data"
    LAYER = "layer"
    REST = "rest"
    COMPUTED = "computed"
    TOTAL = "total"


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One line of a waterfall."""

    name: str
    kind: StepKind
    size_bytes: int
    share: float
    """Of the raw pixels' bytes."""
    start_percent: float
    """Where its bar begins on the axis, which reaches from nothing to the larger of raw pixels and total."""
    width_percent: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Waterfall:
    """Of one site, or of all."""

    name: str
    images: int
    raw_pixel_bytes: int
    total_bytes: int
    """Counted and computed."""
    raw_percent: float
    """Where the raw pixels end on the axis."""
    steps: tuple[Step, ...]

    @property
    def ratio(self) -> float:
        """All that crossed the link over the raw pixels."""
        return self.total_bytes / max(1, self.raw_pixel_bytes)

    @property
    def total_percent(self) -> float:
        """Where the total ends on the axis."""
        return self.steps[-1].width_percent


def waterfalls(merged: Path, overhead: Overhead) -> tuple[Waterfall, tuple[Waterfall, ...]]:
    """The waterfall of all sites together, and each site's."""
    framings = {site.name: computed_framing(merged, (site.name,)) for site in overhead.sites}
    everything = computed_framing(merged, tuple(framings))
    return (
        _waterfall("all sites", overhead.sites, everything),
        tuple(_waterfall(site.name, (site,), framings[site.name]) for site in overhead.sites),
    )


def computed_framing(merged: Path, sites: Sequence[str]) -> LinkFraming:
    """HTTP/2 and TLS around the messages in these sites' own ledgers."""
    marks = ",".join("?" * len(sites))
    query = f"SELECT framed_bytes, COUNT(*) FROM messages WHERE node IN ({marks}) GROUP BY framed_bytes"  # noqa: S608
    with closing(sqlite3.connect(merged)) as ledgers:
        return link_framing(ledgers.execute(query, [f"site/{name}" for name in sites]).fetchall())


def _waterfall(name: str, sites: Sequence[SiteOverhead], framing: LinkFraming) -> Waterfall:
    raw = sum(site.raw_pixel_bytes for site in sites)
    parts = [
        (text, StepKind(kind), sum(int(getattr(site, f"{part}_bytes")) for site in sites))
        for part, (text, kind) in COUNTED.items()
    ]
    parts += [
        ("HTTP/2, computed", StepKind.COMPUTED, framing.http2_bytes),
        ("TLS, computed", StepKind.COMPUTED, framing.tls_bytes),
    ]
    total = sum(size for _, _, size in parts)
    axis = max(1, raw, total)

    def step(text: str, kind: StepKind, size: int, before: int) -> Step:
        return Step(
            name=text,
            kind=kind,
            size_bytes=size,
            share=size / max(1, raw),
            start_percent=100 * before / axis,
            width_percent=100 * size / axis,
        )

    steps, before = [step("raw pixels", StepKind.RAW, raw, 0)], 0
    for text, kind, size in parts:
        steps.append(step(text, kind, size, before))
        before += size
    return Waterfall(
        name=name,
        images=sum(site.images for site in sites),
        raw_pixel_bytes=raw,
        total_bytes=total,
        raw_percent=100 * raw / axis,
        steps=(*steps, step("all that crossed", StepKind.TOTAL, total, 0)),
    )
