"""The comparison as a picture: bytes and seconds of one inference of each method, on logarithmic axes, as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from comparison.compare import Comparison
from comparison.learned import LEARNED

_WIDTH, _LABELS, _ROW, _BAR, _TOP = 760, 190, 44, 14, 64
_AXIS = _WIDTH - _LABELS - 110
_COLOURS = ("#9aa5b1", "#33658a", "#f26419")
_PHASES = ("set-up, spread", "offline", "online")
_STYLE = "text{font:13px system-ui,sans-serif;fill:#1f2933}.h{font-weight:600}.s{font-size:11px;fill:#52606d}"


def plot(comparison: Comparison) -> str:
    """The SVG's text."""
    rows = [
        (
            LEARNED[row.method].title,
            (row.setup.total_bytes / row.inferences, row.offline.total_bytes, row.online.total_bytes),
            (row.setup.wall_s / row.inferences, row.offline.wall_s, row.online.wall_s),
        )
        for row in comparison.rows
    ]
    rows += [
        (
            LEARNED[row.method].title,
            (0.0, 0.0, row.steady_bytes or row.first_bytes or 0.0),
            (0.0, 0.0, row.steady_s or row.first_s or 0.0),
        )
        for row in comparison.elsewhere
        if not row.skipped
    ]
    height = _TOP + 2 * (_ROW * len(rows) + 70)
    bytes_part = _panel("bytes of an inference", _TOP, [(name, sizes) for name, sizes, _ in rows], _size_text)
    second = _TOP + _ROW * len(rows) + 70
    seconds_part = _panel("seconds of an inference", second, [(name, times) for name, _, times in rows], _time_text)
    title = escape(f"{comparison.network.name}, inferences of each method: {comparison.inferences}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{title}">'
        f'<style>{_STYLE}</style><rect width="100%" height="100%" fill="#fff"/>'
        f'<text class="h" x="12" y="24">{title}</text>{_legend()}{bytes_part}{seconds_part}</svg>\n'
    )


def _legend() -> str:
    return "".join(
        f'<rect x="{12 + 130 * place}" y="34" width="11" height="11" fill="{colour}"/>'
        f'<text class="s" x="{28 + 130 * place}" y="44">{name}</text>'
        for place, (name, colour) in enumerate(zip(_PHASES, _COLOURS, strict=True))
    )


def _panel(title: str, top: int, rows: Sequence[tuple[str, tuple[float, ...]]], text: Callable[[float], str]) -> str:
    totals = [sum(parts) for _, parts in rows]
    low = 10 ** math.floor(math.log10(min(total for total in totals if total > 0)) - 0.3)
    high = 10 ** math.ceil(math.log10(max(totals)))
    parts = [f'<text class="h" x="12" y="{top + 18}">{title}</text>']
    bottom = top + 28 + _ROW * len(rows)
    for decade in range(round(math.log10(low)), round(math.log10(high)) + 1):
        x = _LABELS + _AXIS * _place(10.0**decade, low, high)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top + 28}" y2="{bottom}" stroke="#e4e7eb"/>')
        parts.append(f'<text class="s" x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{_decade(decade)}</text>')
    for place, ((name, values), total) in enumerate(zip(rows, totals, strict=True)):
        y = top + 34 + _ROW * place
        parts.append(f'<text x="12" y="{y + 20}">{escape(name)}</text>')
        for lane, (value, colour) in enumerate(zip(values, _COLOURS, strict=True)):
            if value > low:
                width = _AXIS * _place(value, low, high)
                parts.append(
                    f'<rect x="{_LABELS}" y="{y + lane * (_BAR - 2)}" width="{width:.1f}" height="{_BAR - 4}" '
                    f'fill="{colour}"/>'
                )
        parts.append(f'<text class="s" x="{_WIDTH - 8}" y="{y + 20}" text-anchor="end">{text(total)}</text>')
    return "".join(parts)


def _place(value: float, low: float, high: float) -> float:
    return math.log10(value / low) / math.log10(high / low)


def _decade(power: int) -> str:
    return f"10<tspan dy='-4' font-size='8'>{power}</tspan>" if power else "1"


def _size_text(size: float) -> str:
    unit = "B"
    for larger in ("kB", "MB", "GB"):
        if size < 999.5:
            break
        size, unit = size / 1000, larger
    return f"{size:.3g} {unit}"


def _time_text(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"
