"""What a person sees of a running simulation.

The rules: news are sentences that stay on the screen in the order in which things happened. On a terminal a table
below them shows where everything is now; elsewhere (a pipe, CI, --plain) a short line says so now and then. Nothing is
told by colour alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mple.metrics import epoch_text
from mple.printable import printable
from mple.records.training import StepMetrics
from mple.report.quantities import duration_text, size_text
from mple.report.tables import say
from mple.simulate.progress import MANY_SITES, Progress, SiteProgress

_LINE_EVERY_S = 10.0
_MOST_TEXT = 2_000
_MOST_BEHIND = 8


class Screen:
    """Shows a progress; a context manager."""

    def __init__(self, console: Console, *, plain: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._live = None if plain or not console.is_terminal else Live(console=console, refresh_per_second=4)
        self._began_s = self._last_line_s = clock()

    def __enter__(self) -> Screen:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_fault: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, progress: Progress) -> None:
        """Print the news and bring the rest up to date."""
        now_s = self._clock()
        for text in progress.news:
            self._say(now_s, text)
        progress.news.clear()
        if self._live is not None:
            self._live.update(view(progress, now_s))
        elif now_s - self._last_line_s >= _LINE_EVERY_S:
            self._last_line_s = now_s
            self._say(now_s, line(progress, now_s))

    def _say(self, now_s: float, text: str) -> None:
        say(self._console, f"{now_s - self._began_s:6.1f} s  {printable(text, _MOST_TEXT)}")


def line(progress: Progress, now_s: float) -> str:
    """Where everything is, in one line."""
    training = progress.training
    sent = sum(site.samples_sent for site in progress.sites.values())
    images = sum(site.images for site in progress.sites.values())
    size = sum(site.bytes_up + site.bytes_down for site in progress.sites.values())
    text = f"{progress.phase}: {sent} of {images} samples here, {size_text(size)}"
    if (last := training.last) is not None:
        text += (
            f"; epoch {last.epoch}/{training.epochs} step {last.step}/{last.steps} "
            f"loss {last.loss:.3f}, {last.samples_per_second:.0f} samples/s, {_waiting(last)}"
        )
        left_s = progress.time_left_s(now_s)
        text += "" if left_s is None else f", {duration_text(left_s)} left"
    return text


def view(progress: Progress, now_s: float) -> Group:
    """Where everything is, as a table of sites above the state of the training."""
    table = Table(box=None, pad_edge=False)
    table.add_column("site")
    for heading in ("samples", "samples/s", "sent", "received", "retries"):
        table.add_column(heading, justify="right")
    for site in _rows(progress):
        table.add_row(
            site.name,
            f"{site.samples_sent} of {site.images}",
            f"{site.rate:.0f}",
            size_text(site.bytes_up),
            size_text(site.bytes_down),
            str(site.retries),
        )
    training = progress.training
    phase = Text(f"phase {progress.phase}, plan {progress.plan or 'not made'}")
    parts: list[Table | Text | ProgressBar] = [table, phase]
    if (last := training.last) is not None:
        left_s = progress.time_left_s(now_s)
        parts += [
            Text(
                f"epoch {last.epoch} of {training.epochs}, step {last.step} of {last.steps}, "
                f"{epoch_text(last.loss, training.scores)}"
            ),
            Text(
                f"{last.samples_per_second:.0f} samples/s, {_waiting(last)}, first layer "
                f"{last.first_layer_share:.0%}, {'?' if left_s is None else duration_text(left_s)} left"
            ),
            ProgressBar(total=1.0, completed=training.share_done, width=60),
        ]
    return Group(*parts)


def _rows(progress: Progress) -> list[SiteProgress]:
    """All sites or, of many, their sums and those that have sent the least part of their pictures: a terminal has some
    24 lines."""
    sites = list(progress.sites.values())
    if len(sites) <= MANY_SITES:
        return sites
    whole = SiteProgress(f"all {len(sites):,} sites")
    for name in ("images", "samples_sent", "bytes_up", "bytes_down", "retries", "rate"):
        setattr(whole, name, sum(getattr(site, name) for site in sites))
    behind = sorted(sites, key=lambda site: site.samples_sent / max(1, site.images))
    return [whole, *behind[:_MOST_BEHIND]]


def _waiting(last: StepMetrics) -> str:
    """How idle the trainer is, and what for it waits most when it shows."""
    shares = last.idle_shares
    cause = f" for {max(shares, key=lambda one: shares[one])}" if last.idle_share >= 0.005 and shares else ""
    return f"waiting {last.idle_share:.0%}{cause}"
