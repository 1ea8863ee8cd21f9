"""The ratios that the papers on morphing state, once more from measurements: both sides on one network, one machine.

The papers divide GAZELLE's bytes by a raw picture and its seconds by a plain inference's; they set those beside MpLe's
5 % and 9 %, which are of a training. Here every method is measured on the same inference.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from comparison.learned import LEARNED
from comparison.published import PAPERS_COMPUTE_RATIO, PAPERS_DATA_RATIO
from comparison.row import MeasuredRow
from comparison.two_party.session import Method


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratio:
    """One quantity of a protocol over another's."""

    name: str
    value: float
    papers: float | None = None
    """What the papers state, for MiniONN's network."""


def ratios(rows: Sequence[MeasuredRow], picture_bytes: int) -> tuple[Ratio, ...]:
    """All that the measured rows allow.

    Args:
        rows: As measured.
        picture_bytes: Of a raw picture.
    """
    found = {row.method: row for row in rows}
    plain, made = found.get(Method.PLAIN), []
    for method in (Method.GAZELLE, Method.MINIONN):
        if method not in found:
            continue
        row, title = found[method], LEARNED[method].title
        gazelle = method is Method.GAZELLE
        made.append(
            Ratio(
                name=f"{title}: bytes of an inference over a raw picture",
                value=(row.offline.total_bytes + row.online.total_bytes) / picture_bytes,
                papers=PAPERS_DATA_RATIO if gazelle else None,
            )
        )
        for base in (found.get(one) for one in (Method.PLAIN, Method.COMPACT, Method.PAPER)):
            if base is not None:
                name = f"{title}: bytes over those of {LEARNED[base.method].title}, both amortised"
                made.append(Ratio(name=name, value=row.amortised_bytes / base.amortised_bytes))
        if plain is not None:
            made.append(
                Ratio(
                    name=f"{title}: processor seconds of an inference over those of {LEARNED[plain.method].title}",
                    value=_cpu_s(row) / _cpu_s(plain),
                    papers=PAPERS_COMPUTE_RATIO if gazelle else None,
                )
            )
            name = f"{title}: seconds of an inference over those of {LEARNED[plain.method].title}"
            made.append(Ratio(name=name, value=_wall_s(row) / _wall_s(plain)))
    return tuple(made)


def _cpu_s(row: MeasuredRow) -> float:
    return sum(phase.client_cpu_s + phase.server_cpu_s for phase in (row.offline, row.online))


def _wall_s(row: MeasuredRow) -> float:
    return row.offline.wall_s + row.online.wall_s
