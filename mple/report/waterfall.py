"""The overhead as steps from the raw pixels to all that crossed a site's link, each beginning where the last one ended.

What the ledgers counted comes first; the two last steps, HTTP/2 and TLS, are computed (`link_framing`) and say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mple.meter.ledger_reading import opened_ledger
from mple.meter.reconciliation import Overhead, SiteOverhead
from mple.report.few_sites import few_of

COUNTED = {
    "data": ("morphed pictures", "data"),
    "label": ("labels", "rest"),
    "layer": ("augmented layer", "layer"),
    "basis": ("basis", "layer"),
    "logits": ("logits", "rest"),
    "network": ("trained network", "rest"),
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
    """The waterfall of all sites together, and each site's; of very many sites those of the extremes."""
    shown, _ = few_of(overhead.sites, lambda site: site.ratio)
    return _waterfall("all sites", overhead.sites, merged), tuple(_waterfall(one.name, (one,), merged) for one in shown)


def computed_framing(merged: Path, sites: Sequence[str]) -> LinkFraming:
    """HTTP/2 and TLS around the messages in these sites' own ledgers."""
    marks = ",".join("?" * len(sites))
    query = f"SELECT framed_bytes, COUNT(*) FROM messages WHERE node IN ({marks}) GROUP BY framed_bytes"  # noqa: S608
    with opened_ledger(merged) as ledgers:
        return link_framing(ledgers.execute(query, [f"site/{name}" for name in sites]).fetchall())


def _waterfall(name: str, sites: Sequence[SiteOverhead], merged: Path) -> Waterfall:
    framing = computed_framing(merged, [site.name for site in sites])
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


_FRAME_BYTES, _FRAME_HEADER_BYTES = 16_384, 9
_RECORD_BYTES, _RECORD_HEADER_BYTES = 16_384, 22


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkFraming:
    """Bytes of HTTP/2 and TLS; computed, not counted."""

    http2_bytes: int
    tls_bytes: int

    @property
    def total_bytes(self) -> int:
        """Both."""
        return self.http2_bytes + self.tls_bytes


def link_framing(messages: Iterable[tuple[int, int]]) -> LinkFraming:
    """What HTTP/2 and TLS add to messages, given as pairs of size with gRPC's prefix and number of that size.

    Ledgers count messages, not what crosses a port. The rule is that of the two standards' usual sizes, for a message
    that begins a frame and a record of its own: 9 bytes for each HTTP/2 DATA frame of up to 16,384 bytes (RFC 9113,
    section 4.1), 22 for each TLS 1.3 record of as many (RFC 8446, section 5.2: header 5, tag 16, inner type 1).
    Messages that share a record make it less. Not in it is what belongs to no message: handshakes, a call's headers,
    window updates and pings, and TCP/IP itself. For long streams it explains what a counting relay saw within 0.2 %
    (`tests/report/test_link_framing.py`).
    """
    http2 = tls = 0
    for framed, count in messages:
        frames = -(-framed // _FRAME_BYTES) * _FRAME_HEADER_BYTES
        records = -(-(framed + frames) // _RECORD_BYTES) * _RECORD_HEADER_BYTES
        http2 += frames * count
        tls += records * count
    return LinkFraming(http2_bytes=http2, tls_bytes=tls)
