"""A run's summary as tables for people, readable without colours."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from mple.metrics import scores_text
from mple.printable import printable
from mple.privacy import protection
from mple.report.noise_levels import noise_levels, noise_sentence
from mple.report.plan_facts import patients_sentence
from mple.report.summary import PARTS, Summary
from mple.report.verdict import kept_words

_MOST_NUMBERS = 200


def print_summary(summary: Summary, console: Console) -> None:
    """Print bytes by kind, overhead by site, the papers' own count, results and where they lie."""
    console.print(_kinds(summary))
    console.print(_sites(summary))
    for sentence in _sentences(summary):
        say(console, sentence)


def say(console: Console, text: str) -> None:
    """Print a sentence as it is."""
    console.print(printable(text), markup=False, highlight=False, soft_wrap=True)


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


def _sites(summary: Summary) -> Table:
    numbers = ["images", "raw pixels", "sent", "received", *PARTS, "ratio"]
    table = table_of("overhead against raw pixels", ["site"], numbers)
    for site in summary.overhead.sites:
        sizes = [site.raw_pixel_bytes, site.uplink_bytes, site.downlink_bytes]
        sizes += [int(getattr(site, f"{part}_bytes")) for part in PARTS]
        table.add_row(site.name, f"{site.images:,}", *[f"{size / 1e6:,.3f}" for size in sizes], f"{site.ratio:.4f}")
    table.caption = "sizes in MB (10^6 bytes); ratio = all bytes, sent and received, over raw pixel bytes"
    return table


def _sentences(summary: Summary) -> list[str]:
    elements, whole, outcome = summary.elements, summary.overhead, summary.outcome
    ledgers, train_s = summary.balance, outcome.train_seconds
    noise = noise_levels(summary.folder, summary.plan)
    return [
        f"all sites: {whole.sum('total_bytes'):,} bytes for {whole.sum('raw_pixel_bytes'):,} bytes of raw pixels, "
        f"{100 * (whole.ratio - 1):+.2f} %",
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
        f"training: {train_s:.1f} s, {outcome.samples_trained / train_s:.0f} samples/s, first layer "
        f"{100 * outcome.augconv_seconds / train_s:.1f} %, "
        f"waiting {100 * outcome.idle_seconds / train_s:.1f} %{_causes(summary)}",
        f"{scores_text(summary.scores)}, {kept_words(summary)}; model {outcome.model_sha256[:16]}",
        f"summary.json, ledger.sqlite, model.safetensors, metrics.jsonl in {summary.folder.path}",
    ]


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
    text = f"the trained network is in nodes/SITE/state/model of {', '.join(have) or 'no site'}"
    return [text + (f"; without it: {', '.join(lack)}" if lack else "")]


def _absent(summary: Summary) -> list[str]:
    """A sentence for each epoch that went on without some site."""
    sentences = []
    for epoch in summary.epochs:
        lacking = [f"samples {printable(numbers, _MOST_NUMBERS)} of {site}" for site, numbers in epoch.missing.items()]
        lacking += [f"the validation scores of {site}" for site in epoch.unscored]
        if lacking:
            sentences.append(f"epoch {epoch.epoch} went on without {'; '.join(lacking)}")
    if summary.untested:
        sentences.append(f"test pictures that did not score the network: those of {', '.join(summary.untested)}")
    return sentences
