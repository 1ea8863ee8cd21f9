"""A run's summary as tables for people, readable without colours."""

import textwrap
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from mple.metrics import METRICS
from mple.printable import printable, some_of
from mple.privacy import protection
from mple.report.few_sites import few_of, left_out_note
from mple.report.noise_levels import noise_levels, noise_sentence
from mple.report.plan_facts import patients_sentence
from mple.report.score_words import (
    balanced_accuracy,
    class_columns,
    headline,
    interval_of,
    value_text,
)
from mple.report.scores import TEST, TITLES, SplitView, found_by_class
from mple.report.summary import PARTS, Summary
from mple.report.verdict import kept_words

_MOST_NUMBERS = 200
_MOST_CLASSES = 20
_LEAST_NAME, _GAP, _HEADING = 12, 2, 12
"""Of a table: characters of a row's name at least, between columns, and of a line of a heading that need not wrap."""


def print_summary(summary: Summary, console: Console) -> None:
    """Print bytes by kind, overhead by site, the papers' own count, results and where they lie."""
    console.print(_kinds(summary))
    _print_sites(summary, console)
    print_scores(summary, console)
    for sentence in _sentences(summary):
        say(console, sentence)


def say(console: Console, text: str) -> None:
    """Print a sentence as it is, on a terminal wrapped between words: what has no space, as a path, stays whole."""
    text = printable(text)
    lines = textwrap.wrap(text, console.width, break_long_words=False, break_on_hyphens=False)
    for line in lines if console.is_terminal and lines else [text]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def table_of(title: str, texts: Sequence[str], numbers: Sequence[str] = ()) -> Table:
    """An empty table, readable without colours, with columns of texts and then of numbers."""
    table = Table(title=title, title_style="bold", box=None, pad_edge=False)
    table.title_justify = table.caption_justify = "left"
    for heading in texts:
        table.add_column(heading)
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def _kinds(summary: Summary) -> Table:
    title = "what crossed the sites' links, by kind of message"
    table = table_of(title, ["kind", "direction"], ["messages", "payload bytes", "all bytes"])
    for row in summary.kinds:
        table.add_row(row.kind, row.direction, f"{row.messages:,}", f"{row.payload_bytes:,}", f"{row.framed_bytes:,}")
    return table


def print_columns(
    console: Console, title: str, rows: Sequence[str], columns: Sequence[tuple[str, Sequence[str]]], note: str = ""
) -> None:
    """Print a table whose columns may be many: as many at once as the console is wide, then the next ones below.

    Args:
        console: Where to.
        title: Of the first part; the others say that they go on.
        rows: Names of the rows; in a narrow console long ones are cut.
        columns: Headings and a cell for each row.
        note: Below the last part.
    """
    least = max((_width(column) for column in columns), default=0)
    room = max(_LEAST_NAME, console.width - least - _GAP)
    names = [one if len(one) <= room else f"{one[: room - 1]}…" for one in map(printable, rows)]
    first, at = max(map(len, names), default=0), 0
    while at < len(columns):
        end, width = at, first
        while end < len(columns) and (end == at or width + _GAP + _width(columns[end]) <= console.width):
            width += _GAP + _width(columns[end])
            end += 1
        table = table_of(title if at == 0 else f"{title}, continued", [""])
        for column in columns[at:end]:
            table.add_column(column[0], justify="right", width=_width(column))
        for place, name in enumerate(names):
            table.add_row(name, *(cells[place] for _, cells in columns[at:end]))
        console.print(table)
        at = end
    if note:
        say(console, note)


def _width(column: tuple[str, Sequence[str]]) -> int:
    """As wide as its cells; a heading of several words may wrap."""
    heading, cells = column
    words = [len(printable(one)) for one in (*heading.split(), *cells)]
    return max(*words, min(_HEADING, len(printable(heading))))


def _print_sites(summary: Summary, console: Console) -> None:
    """A row for each quantity: there are mostly more of these than of sites. Of very many sites the extremes, behind
    the sums of all."""
    shown, left_out = few_of(summary.overhead.sites, lambda site: site.ratio)
    columns = []
    if left_out:
        whole = summary.overhead
        sizes = [whole.sum(f"{one}_bytes") for one in ("raw_pixel", "uplink", "downlink", *PARTS)]
        cells = [f"{whole.sum('images'):,}", *[f"{size / 1e6:,.3f}" for size in sizes], f"{whole.ratio:.4f}"]
        columns.append(("all sites", cells))
    for site in shown:
        sizes = [site.raw_pixel_bytes, site.uplink_bytes, site.downlink_bytes]
        sizes += [int(getattr(site, f"{part}_bytes")) for part in PARTS]
        columns.append(
            (site.name, [f"{site.images:,}", *[f"{size / 1e6:,.3f}" for size in sizes], f"{site.ratio:.4f}"])
        )
    rows = ["images", "raw pixels", "sent", "received", *PARTS, "ratio"]
    note = "sizes in MB (10^6 bytes); ratio: all bytes, sent and received, over raw pixel bytes"
    note += left_out_note(left_out, "ratio")
    print_columns(console, "overhead against raw pixels", rows, columns, note)


def print_scores(summary: Summary, console: Console) -> None:
    """Print what the network does on the test pictures: of all sites and each, and by class; of the others a line."""
    for name, view in summary.views.items():
        if name == TEST:
            _print_by_site(view, console)
            _print_by_class(view, console)
        for note in view.notes:
            say(console, note)


def _print_by_site(view: SplitView, console: Console) -> None:
    names = [name for name in METRICS if name in view.whole.metrics or name in view.whole.missing]
    shown, left_out = few_of(view.sites if len(view.sites) > 1 else (), balanced_accuracy)
    columns = [
        ("all sites", [value_text(view.whole, name) for name in names]),
        ("95 % interval", [interval_of(view.whole, name) for name in names]),
        *((one.name, [value_text(one, name) for name in names]) for one in shown),
    ]
    note = left_out_note(left_out, "balanced accuracy").removeprefix("; ")
    print_columns(console, f"{view.name} pictures", [TITLES[name] for name in names], columns, note)


def _print_by_class(view: SplitView, console: Console) -> None:
    """Of all sites, a row for each class, those that are found least first."""
    whole = view.whole
    counted = found_by_class(whole.figures.confusion, whole.positives, several=view.several)
    metrics = [(name, heading) for name, heading in class_columns(view) if _by_class(view, name)]
    if not metrics:
        return
    names = list(whole.positives or whole.metrics[metrics[0][0]].by_class)
    names.sort(key=lambda name: counted[name][0] / counted[name][1] if name in counted else 2.0)
    shown, rest = names[:_MOST_CLASSES], len(names) - _MOST_CLASSES
    columns = [("found", [f"{counted[one][0]:,} of {counted[one][1]:,}" if one in counted else "" for one in shown])]
    for metric, heading in metrics:
        columns.append((heading, [value_text(whole, metric, one) for one in shown]))
        if metric == "auroc":
            columns.append(("95 % interval", [interval_of(whole, metric, one) for one in shown]))
    more = "of all sites, the class that is found least first"
    if rest > 0:
        more += f"; {rest:,} more classes are in summary.json and on the page"
    print_columns(console, f"{view.name} pictures by class", shown, columns, more)


def _by_class(view: SplitView, metric: str) -> bool:
    return metric in view.whole.metrics and bool(view.whole.metrics[metric].by_class)


def _without_network(summary: Summary) -> str:
    """A network weighs the same however many pictures it was trained on, and more than many a small set."""
    whole, sent = summary.overhead, summary.overhead.sum("network_bytes")
    if not sent:
        return ""
    rest, raw = whole.sum("total_bytes") - sent, whole.sum("raw_pixel_bytes")
    return f"; without the delivered network {rest:,} bytes, {100 * (rest / raw - 1):+.2f} %"


def _sentences(summary: Summary) -> list[str]:
    elements, whole, outcome = summary.elements, summary.overhead, summary.outcome
    ledgers, train_s = summary.balance, outcome.train_seconds
    noise = noise_levels(summary.folder, summary.plan)
    return [
        f"all sites: {whole.sum('total_bytes'):,} bytes for {whole.sum('raw_pixel_bytes'):,} bytes of raw pixels, "
        f"{100 * (whole.ratio - 1):+.2f} %{_without_network(summary)}",
        f"counted in elements as the papers do: {100 * (elements.sent_ratio - 1):+.2f} % with the layers that were "
        f"sent; the papers' formula gives {100 * elements.quoted_ratio:+.2f} %",
        "ledgers: "
        + (
            f"balanced, {ledgers.matched:,} messages matched at both ends"
            + (f", {ledgers.lost:,} cut off on their way" if ledgers.lost else "")
            if ledgers.balanced
            else f"{ledgers.matched:,} matched, {ledgers.only_sent} only sent, {ledgers.only_received} only received, "
            f"{ledgers.size_differs} of other size: {'; '.join(ledgers.offenders)}"
        ),
        *_resent(summary),
        *_absent(summary),
        *_delivered(summary),
        *([noise_sentence(noise)] if noise else []),
        f"protection: {protection(summary.plan)}",
        patients_sentence(summary.plan),
        f"training{_by_ranks(summary)}: {train_s:.1f} s, {outcome.samples_trained / train_s:.0f} samples/s, "
        f"first layer {100 * outcome.augconv_seconds / train_s:.1f} %, "
        f"waiting {100 * outcome.idle_seconds / train_s:.1f} %{_causes(summary)}",
        f"run {summary.plan.run_id}, {summary.facts.when}; kept is {kept_words(summary)}; "
        f"model {outcome.model_sha256[:16]}",
        *(headline(view) for view in summary.views.values()),
        f"summary.json, ledger.sqlite, model.safetensors, metrics.jsonl in {summary.folder.path}",
    ]


def _by_ranks(summary: Summary) -> str:
    """How many processes have trained together, where there were several."""
    ranks = summary.plan.training.ranks
    return f" by {ranks} ranks" if ranks > 1 else ""


def _causes(summary: Summary) -> str:
    """What the trainer waited for, as far as one can see it in tenths of a per cent."""
    train_s = summary.outcome.train_seconds
    shares = {cause: 100 * seconds / train_s for cause, seconds in summary.outcome.idle_seconds_by_cause.items()}
    seen = [f"{cause} {share:.1f} %" for cause, share in shares.items() if share >= 0.05]
    return f" ({', '.join(seen)})" if seen else ""


def _resent(summary: Summary) -> list[str]:
    """A sentence where samples were sent more than once."""
    samples, size = summary.overhead.sum("resent_samples"), summary.overhead.sum("resent_bytes")
    return [f"sent once more after broken links: {samples:,} samples, {size:,} bytes"] if samples else []


def _delivered(summary: Summary) -> list[str]:
    """A sentence where sites have the network, or should have it."""
    have = summary.outcome.delivered
    if have is None:
        return []
    lack = [site.name for site in summary.plan.sites if site.name not in have]
    text = f"the trained network is in nodes/SITE/state/model of {some_of(have) or 'no site'}"
    return [text + (f"; without it: {some_of(lack)}" if lack else "")]


def _absent(summary: Summary) -> list[str]:
    """A sentence for each epoch that went on without some site."""
    sentences = []
    for epoch in summary.epochs:
        lacking = [f"samples {printable(numbers, _MOST_NUMBERS)} of {site}" for site, numbers in epoch.missing.items()]
        lacking += [f"the validation scores of {site}" for site in epoch.unscored]
        if lacking:
            sentences.append(f"epoch {epoch.epoch} went on without {some_of(lacking, between='; ')}")
    if summary.untested:
        sentences.append(f"test pictures that did not score the network: those of {some_of(summary.untested)}")
    return sentences
