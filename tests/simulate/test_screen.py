"""The screen: news once and whole, a line now and then where there is no terminal, a table where there is one."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from mple.console import PrintableConsole
from mple.simulate.progress import Progress, SiteProgress, TrainingProgress
from mple.simulate.screen import Screen, line, view
from tests.support.training_records import step_metrics


class Clock:
    """Seconds as a test sets them."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_news_are_said_once_and_as_they_are() -> None:
    out, clock, progress = StringIO(), Clock(), Progress(news=["north: [data] is [bold]missing[/bold]"])
    with Screen(Console(file=out, width=40), plain=False, clock=clock) as screen:
        clock.now_s += 2.5
        screen.show(progress)
        screen.show(progress)
    assert out.getvalue() == "   2.5 s  north: [data] is [bold]missing[/bold]\n"
    assert progress.news == []


def test_without_a_terminal_a_line_comes_every_ten_seconds() -> None:
    out, clock = StringIO(), Clock()
    progress = Progress(phase="training", sites={"north": SiteProgress("north", images=100, samples_sent=40)})
    with Screen(Console(file=out, width=200), plain=False, clock=clock) as screen:
        for _ in range(25):
            screen.show(progress)
            clock.now_s += 1.0
    lines = out.getvalue().splitlines()
    assert [line.split("s")[0].strip() for line in lines] == ["10.0", "20.0"]
    assert all("40 of 100 samples" in line for line in lines)


def test_plain_means_lines_on_a_terminal_too() -> None:
    out = StringIO()
    with Screen(Console(file=out, width=80, force_terminal=True), plain=True, clock=Clock()) as screen:
        screen.show(Progress(news=["the run is training"]))
    assert out.getvalue() == "   0.0 s  the run is training\n"


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ({}, "waiting 0%"),
        ({"samples": 0.0}, "waiting 0%"),
        ({"samples": 0.004}, "waiting 0%"),
        ({"samples": 0.125, "scores": 0.25, "checkpoints": 0.0}, "waiting 38% for scores"),
    ],
)
@pytest.mark.parametrize("terminal", [False, True])
def test_how_much_the_trainer_waits_and_for_what(shares: dict[str, float], told: str, terminal: bool) -> None:
    last = step_metrics(idle_share=sum(shares.values()), idle_shares=shares)
    progress = Progress(training=TrainingProgress(epochs=2, last=last), training_began_s=0.0)
    out = Console(file=StringIO(), width=200)
    with out.capture() as captured:
        out.print(view(progress, 1.0) if terminal else line(progress, 1.0))
    assert f"{told}," in captured.get()


def test_a_terminal_shows_the_table() -> None:
    out = StringIO()
    progress = Progress(sites={"north": SiteProgress("north", images=100)}, news=["begun"])
    with Screen(Console(file=out, width=80, force_terminal=True), plain=False, clock=Clock()) as screen:
        screen.show(progress)
    assert "begun" in out.getvalue()
    assert "0 of 100" in out.getvalue()
    assert "phase starting" in out.getvalue()


def test_what_is_on_the_screen_is_printable() -> None:
    """A node's log may hold a peer's words, a run's phase and sites too."""
    odd = "\x1b[2J\u202e[/red]\n\u2028x"
    progress = Progress(phase=odd, plan=odd, sites={odd: SiteProgress(odd)}, news=[f"north: {odd}", "y" * 1_000_000])
    for terminal in (True, False):
        out = StringIO()
        console = PrintableConsole(file=out, width=200, force_terminal=terminal, color_system=None)
        with Screen(console, plain=not terminal) as screen:
            progress.news = [f"north: {odd}", "y" * 1_000_000]
            screen.show(progress)
            console.print(view(progress, 1.0))
        shown = out.getvalue()
        assert "\\u001b[2J\\u202e[/red]\\n\\u2028x" in shown
        assert not {"\u202e", "\u2028"} & set(shown)
        assert "\x1b[2J" not in shown
        assert len(shown) < 50_000
