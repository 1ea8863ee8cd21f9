"""A run in one sentence, and in the few numbers that stand beside it."""

from dataclasses import dataclass

from mple.meter.reconciliation import Balance
from mple.metrics import METRICS, score_text, scores_text
from mple.report.quantities import SPACE, change_text, duration_text, number_word, share_text, size_text
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
    return (
        f"Everything that crossed {links}, TLS as computed included: {change_text(whole.ratio)} "
        f"against the raw pixels' bytes; {scores_text(summary.scores)}; {balance_words(summary.balance)}"
    )


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
    outcome, plan, elements, ledgers = summary.outcome, summary.plan, summary.elements, summary.balance
    train_s = outcome.train_seconds
    tests = sum(site.test_images for site in plan.sites)
    matched = f"{ledgers.matched:,} messages matched at both ends; cut off on their way: {ledgers.lost:,}"
    scored = f"{kept_words(summary)}, over {tests:,} pictures"
    pace = (
        f"{outcome.samples_trained / train_s:,.0f} samples/s; waited {share_text(outcome.idle_seconds / train_s)}, "
        f"first layer {share_text(outcome.augconv_seconds / train_s)}"
    )
    counted = f"elements, layers included; the papers' formula gives +{100 * elements.quoted_ratio:.2f}{SPACE}%"
    return [
        Fact(
            "crossed the links",
            size_text(whole.total_bytes),
            f"for {size_text(whole.raw_pixel_bytes)} of raw pixels, {whole.images:,} pictures",
        ),
        *(Fact(f"test {name}", score_text(name, summary.scores), scored) for name in METRICS if METRICS[name].brief),
        Fact("training", duration_text(train_s), pace),
        Fact("ledgers", "balanced" if ledgers.balanced else "NOT balanced", matched),
        Fact("counted as the papers do", change_text(elements.sent_ratio), counted),
    ]
