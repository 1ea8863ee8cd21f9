"""A run in one sentence, and in the few numbers that stand beside it."""

from dataclasses import dataclass

from mple.meter.reconciliation import Balance
from mple.metrics import scores_text
from mple.report.quantities import SPACE, change_text, duration_text, number_word, share_text, size_text
from mple.report.score_words import (
    HEADLINE,
    interval_of,
    lowest_note,
    lowest_text,
    short_headline,
    title_of,
    value_text,
)
from mple.report.scores import TEST
from mple.report.summary import Summary
from mple.report.waterfall import Waterfall


@dataclass(frozen=True, slots=True)
class Fact:
    """A number with what it is."""

    name: str
    value: str
    note: str


def verdict(summary: Summary, whole: Waterfall) -> str:
    """What the run came to; HTTP/2 and TLS are in it as computed."""
    sites = summary.plan.sites
    links = "the site's link" if len(sites) == 1 else f"the {number_word(len(sites))} sites' links"
    network = summary.overhead.sum("network_bytes")
    without = f" ({change_text((whole.total_bytes - network) / whole.raw_pixel_bytes)} without the delivered network)"
    return (
        f"Everything that crossed {links}, TLS as computed included: {change_text(whole.ratio)} "
        f"against the raw pixels' bytes{without if network else ''}; {_scores_words(summary)}; "
        f"{balance_words(summary.balance)}"
    )


def _scores_words(summary: Summary) -> str:
    return short_headline(summary.views[TEST]) if TEST in summary.views else scores_text(summary.scores)


def started(summary: Summary) -> list[tuple[str, str]]:
    """When the run was and what started it, as far as that is known."""
    facts = summary.facts
    known = [
        ("date", facts.when),
        ("duration", duration_text(facts.seconds) if facts.began else ""),
        ("command", facts.command),
        ("commit", facts.commit),
    ]
    return [(name, value) for name, value in known if value]


def kept_words(summary: Summary) -> str:
    """Which network was kept: "epoch 3 of 4"."""
    return f"epoch {summary.judged.kept_epoch} of {len(summary.epochs)}"


def balance_words(ledgers: Balance) -> str:
    """Whether the two ends' ledgers agree."""
    if not ledgers.balanced:
        faults = ledgers.only_sent + ledgers.only_received + ledgers.size_differs
        return f"ledgers NOT balanced: {faults:,} messages not matched at both ends"
    return "ledgers balanced" + (f", {ledgers.lost:,} messages cut off on their way" if ledgers.lost else "")


def facts(summary: Summary, whole: Waterfall) -> list[Fact]:
    """The numbers beside the sentence."""
    outcome, elements, ledgers = summary.outcome, summary.elements, summary.balance
    train_s = outcome.train_seconds
    matched = f"{ledgers.matched:,} messages matched at both ends; cut off on their way: {ledgers.lost:,}"
    ranks = summary.plan.training.ranks
    pace = (
        f"{outcome.samples_trained / train_s:,.0f} samples/s{f' by {ranks} ranks' if ranks > 1 else ''}; waited "
        f"{share_text(outcome.idle_seconds / train_s)}, first layer {share_text(outcome.augconv_seconds / train_s)}"
    )
    counted = f"elements, layers included; the papers' formula gives +{100 * elements.quoted_ratio:.2f}{SPACE}%"
    return [
        Fact(
            "crossed the links",
            size_text(whole.total_bytes),
            f"for {size_text(whole.raw_pixel_bytes)} of raw pixels, {whole.images:,} pictures",
        ),
        *_score_facts(summary),
        Fact("training", duration_text(train_s), pace),
        Fact("ledgers", "balanced" if ledgers.balanced else "NOT balanced", matched),
        Fact("counted as the papers do", change_text(elements.sent_ratio), counted),
    ]


def _score_facts(summary: Summary) -> list[Fact]:
    """What the first screen says of the test pictures: the class that is found least among it."""
    view = summary.views.get(TEST)
    if view is None:
        return [Fact("test accuracy", "not scored", "the plan has no test picture")]
    whole, found = view.whole, []
    for name in HEADLINE:
        interval = interval_of(whole, name)
        note = f"95 %: {interval}" if interval else "without an interval"
        if name == HEADLINE[0]:
            note += f"; {kept_words(summary)}, {whole.samples:,} pictures"
        found.append(Fact(f"test {title_of(name)}", value_text(whole, name), note))
    lowest = view.lowest
    if lowest is None:
        return [*found, Fact("least found class", "not told", "no confusion matrix by class is at hand")]
    return [*found, Fact("least found class", lowest_text(lowest), lowest_note(lowest))]
