"""A run's summary as tables for people, readable without colours."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from mple.model.metrics import scores_text
from mple.privacy import protection
from mple.report.noise_levels import noise_levels, noise_sentence
from mple.report.summary import Summary


def print_summary(summary: Summary, console: Console) -> None:
    """Print bytes by kind, overhead by site, the papers' own count, results and where they lie."""
    console.print(_kinds(summary))
    console.print(_sites(summary))
    for sentence in _sentences(summary):
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def _kinds(summary: Summary) -> Table:
    table = _table("what crossed the sites' links, by kind of message", "kind", "direction")
    for heading in ("messages", "payload bytes", "all bytes"):
        table.add_column(heading, justify="right")
    for row in summary.kinds:
        table.add_row(row.kind, row.direction, f"{row.messages:,}", f"{row.payload_bytes:,}", f"{row.framed_bytes:,}")
    return table


def _sites(summary: Summary) -> Table:
    table = _table("overhead against raw pixels", "site")
    parts = ("data", "label", "layer", "logits", "setup", "control", "framing")
    for heading in ("images", "raw pixels", "sent", "received", *parts, "ratio"):
        table.add_column(heading, justify="right")
    for site in summary.overhead.sites:
        sizes = [site.raw_pixel_bytes, site.uplink_bytes, site.downlink_bytes]
        sizes += [int(getattr(site, f"{part}_bytes")) for part in parts]
        table.add_row(site.name, f"{site.images:,}", *[_millions(size) for size in sizes], f"{site.ratio:.4f}")
    table.caption = "sizes in MB (10^6 bytes); ratio = all bytes, sent and received, over raw pixel bytes"
    return table


def _sentences(summary: Summary) -> list[str]:
    elements, whole, outcome = summary.elements, summary.overhead, summary.outcome
    ledgers = summary.balance
    train_s = outcome.train_seconds
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
        *_noise(summary),
        f"protection: {protection(summary.plan)}",
        f"training: {train_s:.1f} s, {outcome.samples_trained / train_s:.0f} samples/s, first layer "
        f"{100 * outcome.augconv_seconds / train_s:.1f} %, "
        f"waiting {100 * outcome.idle_seconds / train_s:.1f} %{_causes(summary)}",
        f"{scores_text(summary.scores)} after {len(summary.epochs)} epochs; model {outcome.model_sha256[:16]}",
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


def _noise(summary: Summary) -> list[str]:
    """A sentence where pictures left with noise."""
    levels = noise_levels(summary.folder, summary.plan)
    return [noise_sentence(levels)] if levels else []


def _absent(summary: Summary) -> list[str]:
    """A sentence for each epoch that went on without some site."""
    sentences = []
    for epoch in summary.epochs:
        lacking = [f"samples {numbers} of {site}" for site, numbers in epoch.missing.items()]
        lacking += [f"the scores of {site}" for site in epoch.unscored]
        if lacking:
            sentences.append(f"epoch {epoch.epoch} went on without {'; '.join(lacking)}")
    return sentences


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_style="bold", box=None, pad_edge=False)
    table.title_justify = table.caption_justify = "left"
    for column in columns:
        table.add_column(column)
    return table


def _millions(size: int) -> str:
    return f"{size / 1e6:,.3f}"
