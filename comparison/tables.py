"""A comparison as tables, for a terminal, a page and as Markdown.

Bytes are decimal (1 MB = 1,000,000 bytes), but for published figures, which are printed as they are quoted.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from comparison.compare import Comparison
from comparison.elsewhere_row import ElsewhereRow
from comparison.learned import LEARNED
from comparison.published import PUBLISHED, REASONS
from comparison.row import MeasuredRow, PhaseFigures
from comparison.two_party.contents import Phase
from mple.report.quantities import duration_text, size_text

_NONE = "-"


@dataclass(frozen=True, kw_only=True, slots=True)
class FigureTable:
    """One table: its title, what it says in a sentence, heads and lines."""

    title: str
    note: str
    heads: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


def tables(comparison: Comparison) -> tuple[FigureTable, ...]:
    """All tables of a comparison."""
    return (
        _summary(comparison),
        _phases(comparison),
        _counted(comparison),
        _kinds(comparison),
        _layers(comparison),
        _processes(comparison),
        _published(comparison),
        _ratios(comparison),
        _learned(comparison),
    )


def title(comparison: Comparison) -> str:
    """What was compared."""
    return (
        f"Inference on the network {comparison.network.name}, pictures inferred by each method: {comparison.inferences}"
    )


def about(comparison: Comparison) -> str:
    """On what it was compared."""
    return (
        f"{comparison.dataset}; quantised network's accuracy {_percent(comparison.accuracy)} on "
        f"{comparison.accuracy_pictures:,} test pictures, {comparison.network.modulus_bits}-bit modulus; "
        f"{comparison.machine}."
    )


def reasons(comparison: Comparison) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Why methods of the comparison differ from their papers: a title and the reasons of each."""
    return tuple(
        (f"Why {LEARNED[method].title} differs from its paper", listed)
        for method, listed in REASONS.items()
        if any(row.method == method for row in comparison.rows)
    )


def markdown(comparison: Comparison) -> str:
    """All tables as Markdown, with a heading for the comparison."""
    parts = [f"# {title(comparison)}", about(comparison)]
    for table in tables(comparison):
        parts += [f"## {table.title}", table.note, _markdown_table(table)]
    for why, listed in reasons(comparison):
        parts += [f"## {why}", "\n".join(f"- {one}" for one in listed)]
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: FigureTable) -> str:
    rows = (table.heads, ("---", *("---:" for _ in table.heads[1:])), *table.lines)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _summary(comparison: Comparison) -> FigureTable:
    ours = [
        (
            LEARNED[row.method].title,
            _size(row.setup.up_bytes / row.inferences + row.offline.up_bytes + row.online.up_bytes),
            _size(row.setup.down_bytes / row.inferences + row.offline.down_bytes + row.online.down_bytes),
            _size(row.amortised_bytes),
            _seconds(row.amortised_s),
            _percent(comparison.accuracy if row.accuracy is None else row.accuracy),
            "equal" if row.logits_equal else f"within {row.largest_logit_error}",
        )
        for row in comparison.rows
    ]
    theirs = [_elsewhere_line(row) for row in comparison.elsewhere]
    return FigureTable(
        title="An inference, set-up spread over all",
        note="Two processes on one machine; bytes from the client's ledger, with gRPC's framing, without TLS.",
        heads=("method", "up", "down", "total", "seconds", "accuracy", "logits"),
        lines=(*ours, *theirs),
    )


def _elsewhere_line(row: ElsewhereRow) -> tuple[str, ...]:
    title = LEARNED[row.method].title
    if row.skipped:
        return (title, *(_NONE for _ in range(5)), f"skipped: {row.skipped}")
    size = row.steady_bytes if row.steady_bytes is not None else row.first_bytes
    seconds = row.steady_s if row.steady_s is not None else row.first_s
    first = "" if row.steady_bytes is not None else " (first)"
    return (
        title,
        _size(row.up_bytes),
        _size(row.down_bytes),
        _size(size) + first,
        _seconds(seconds) + first,
        _NONE,
        f"same class in {_percent(row.same_class or 0.0)}",
    )


def _phases(comparison: Comparison) -> FigureTable:
    def line(row: MeasuredRow, name: str, of: PhaseFigures) -> tuple[str, ...]:
        return (
            LEARNED[row.method].title,
            name,
            _size(of.up_bytes),
            _size(of.down_bytes),
            _seconds(of.wall_s),
            _seconds(of.first_wall_s),
            _seconds(of.client_cpu_s),
            _seconds(of.server_cpu_s),
        )

    return FigureTable(
        title="By phase",
        note="Set-up once; offline and online are means over the inferences, before and from the picture.",
        heads=("method", "phase", "up", "down", "seconds", "first", "client's processor", "server's processor"),
        lines=tuple(line(row, name, of) for row in comparison.rows for name, of in _named_phases(row)),
    )


def _counted(comparison: Comparison) -> FigureTable:
    def line(row: MeasuredRow, name: str, of: PhaseFigures) -> tuple[str, ...]:
        off = of.off_count
        return (
            LEARNED[row.method].title,
            name,
            f"{of.total_bytes:,.0f}",
            _NONE if of.expected_bytes is None else f"{of.expected_bytes:,.0f}",
            _NONE if off is None else f"{100 * off:+.3f} %",
        )

    return FigureTable(
        title="Measured and counted on paper",
        note="Bytes of both directions; the count is from the network's form alone, greetings are not in it.",
        heads=("method", "phase", "measured", "counted", "difference"),
        lines=tuple(line(row, name, of) for row in comparison.rows for name, of in _named_phases(row)),
    )


def _kinds(comparison: Comparison) -> FigureTable:
    return FigureTable(
        title="By kind",
        note="Bytes with framing; set-up of the whole run, offline and online per inference.",
        heads=("method", "phase", "kind", "up", "down"),
        lines=tuple(_split(comparison.rows, lambda traffic: traffic.kind)),
    )


def _layers(comparison: Comparison) -> FigureTable:
    layered = [row for row in comparison.rows if any(traffic.part for traffic in row.traffic)]
    return FigureTable(
        title="By layer",
        note="Bytes with framing, per inference.",
        heads=("method", "phase", "layer", "up", "down"),
        lines=tuple(_split(layered, lambda traffic: traffic.part)),
    )


def _split(rows: Iterable[MeasuredRow], of: Callable[..., str]) -> Iterable[tuple[str, ...]]:
    for row in rows:
        for phase in Phase:
            count = 1 if phase is Phase.SETUP else row.inferences
            sums: dict[str, list[float]] = {}
            for traffic in row.traffic:
                if traffic.phase is phase and of(traffic):
                    sums.setdefault(of(traffic), [0.0, 0.0])[not traffic.up] += traffic.framed_bytes / count
            for name, (up, down) in sums.items():
                yield LEARNED[row.method].title, phase, name, _size(up), _size(down)


def _processes(comparison: Comparison) -> FigureTable:
    def line(row: MeasuredRow) -> tuple[str, ...]:
        return (
            LEARNED[row.method].title,
            _size(row.client_peak_bytes),
            _size(row.server_peak_bytes),
            _size(row.spool_bytes) if row.spool_bytes else _NONE,
            f"{row.messages:,}",
        )

    theirs = tuple(
        (LEARNED[row.method].title, _size(row.client_peak_bytes), _size(row.server_peak_bytes), _NONE, _NONE)
        for row in comparison.elsewhere
        if not row.skipped
    )
    return FigureTable(
        title="Processes",
        note="Most memory of each process, interpreter and libraries included; garbled tables wait in a file.",
        heads=("method", "client's memory", "server's memory", "tables on disk", "messages"),
        lines=(*(line(row) for row in comparison.rows), *theirs),
    )


def _published(comparison: Comparison) -> FigureTable:
    lines = []
    for one in PUBLISHED:
        title = LEARNED[one.method].title
        quoted = (one.offline_s, one.online_s, one.offline_mib, one.online_mib)
        lines.append((title, one.marked, *(f"{value:g}" for value in quoted)))
        for row in comparison.rows:
            if row.method == one.method:
                sizes = (row.offline.total_bytes / 2**20, row.online.total_bytes / 2**20)
                figures = (row.offline.wall_s, row.online.wall_s, *sizes)
                lines.append((title, f"measured, {comparison.network.name}", *(f"{value:.3g}" for value in figures)))
    return FigureTable(
        title="Beside published figures",
        note="Published ones are of MiniONN's network for CIFAR-10, on the papers' machines; MB as the papers have it.",
        heads=("method", "where from", "offline s", "online s", "offline MiB", "online MiB"),
        lines=tuple(lines),
    )


def _ratios(comparison: Comparison) -> FigureTable:
    return FigureTable(
        title="Ratios",
        note="The papers' ratios set a protocol's inference beside a raw picture and a plain inference.",
        heads=("ratio", "measured", "the papers say"),
        lines=tuple(
            (ratio.name, f"{ratio.value:,.1f}", _NONE if ratio.papers is None else f"{ratio.papers:,.0f}")
            for ratio in comparison.ratios
        ),
    )


def _learned(comparison: Comparison) -> FigureTable:
    names = [row.method.value for row in comparison.rows] + [row.method for row in comparison.elsewhere]
    return FigureTable(
        title="What each party learns",
        note="The methods don't promise the same: figures alone compare unlike things.",
        heads=("method", "the server learns", "the client learns", "rests on"),
        lines=tuple(
            (LEARNED[name].title, LEARNED[name].by_server, LEARNED[name].by_client, LEARNED[name].rests_on)
            for name in names
        ),
    )


def _named_phases(row: MeasuredRow) -> tuple[tuple[str, PhaseFigures], ...]:
    return ("set-up", row.setup), ("offline", row.offline), ("online", row.online)


def _size(size: float | None) -> str:
    return _NONE if size is None else size_text(size)


def _seconds(seconds: float | None) -> str:
    return _NONE if seconds is None else duration_text(seconds)


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
