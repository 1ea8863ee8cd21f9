"""The state behind the screen: what nodes write goes in, what a person sees comes out."""

from rich.console import Console

from mple.records.log_events import LogLine
from mple.records.training import NetworkMetrics
from mple.simulate.progress import Progress, SiteProgress
from mple.simulate.screen import line, view
from tests.support.training_records import epoch_metrics, step_metrics


def begun() -> Progress:
    progress = Progress(sites={"north": SiteProgress("north", images=100)})
    progress.training.epochs = 2
    return progress


def test_retries_are_counted_for_their_site_and_are_no_news() -> None:
    progress = begun()
    progress.read_log("north", LogLine(event="retry", level="info", text="away"))
    assert progress.sites["north"].retries == 1
    assert progress.news == []


def test_warnings_of_sites_are_news_and_their_chatter_is_not() -> None:
    progress = begun()
    progress.read_log("north", LogLine(event="plan", level="info", text="agreed on a plan"))
    progress.read_log("north", LogLine(event="log", level="warning", text="the link is slow"))
    assert progress.news == ["north: the link is slow"]


def test_an_epoch_is_told_with_what_validation_says_of_it() -> None:
    progress = begun()
    progress.read_metrics(epoch_metrics(epoch=1, loss=0.5))
    progress.read_metrics(epoch_metrics(epoch=2, loss=0.25, scores={"accuracy": 0.75, "loss": 0.61, "ece": 0.1}))
    assert [text.rpartition(",")[0] for text in progress.news] == [
        "epoch 1 of 2: loss 0.5000",
        "epoch 2 of 2: loss 0.2500, validation loss 0.6100, validation accuracy 0.7500",
    ]
    progress.read_metrics(NetworkMetrics(epoch=1, scores={"accuracy": 0.625}))
    assert progress.news[-1] == "kept is epoch 1: test accuracy 0.6250"


def test_time_left_follows_from_the_share_of_steps_done() -> None:
    progress = begun()
    assert progress.time_left_s(100.0) is None
    progress.training_began_s = 40.0
    progress.read_metrics(step_metrics())
    assert progress.training.share_done == 0.25
    assert progress.time_left_s(100.0) == 180.0
    progress.read_metrics(step_metrics(epoch=2, step=10))
    assert progress.time_left_s(100.0) == 0.0


def test_rates_are_between_two_readings() -> None:
    progress = begun()
    progress.read_ledger("north", samples=10, up=1000, down=10, elapsed_s=1.0)
    progress.read_ledger("north", samples=50, up=5000, down=20, elapsed_s=2.0)
    assert progress.sites["north"].rate == 20.0


def test_the_view_and_the_line_tell_every_figure_without_colour() -> None:
    progress = begun()
    progress.read_ledger("north", samples=50, up=1_500_000, down=20, elapsed_s=1.0)
    progress.sites["north"].retries = 3
    progress.read_metrics(step_metrics())
    console = Console(width=120, record=True, color_system=None, force_terminal=False)
    console.print(view(progress, 0.0))
    shown = console.export_text().replace("\N{NO-BREAK SPACE}", " ")
    for text in ("north", "50 of 100", "1.50 MB", "20 B", "3", "epoch 1 of 2", "step 5 of 10", "1.2500", "80", "50%"):
        assert text in shown, text
    assert "50 of 100 samples" in line(progress, 0.0)


def many(count: int) -> Progress:
    progress = Progress(sites={f"s{number}": SiteProgress(f"s{number}", images=10) for number in range(count)})
    progress.training.epochs = 2
    return progress


def test_what_many_sites_do_is_told_in_sums() -> None:
    progress = many(199)
    for number in range(199):
        progress.read_log("coordinator", LogLine(event="party_joined", level="info", text="x", party=f"site/s{number}"))
    progress.read_log("coordinator", LogLine(event="party_joined", level="info", text="x", party="compute/compute"))
    assert len(progress.news) == 10
    assert progress.news[0] == "coordinator: 20 of 200 parties have joined"
    assert progress.news[-1] == "coordinator: 200 of 200 parties have joined"
    progress.news.clear()
    for number in range(199):
        progress.read_log("coordinator", LogLine(event="layer_released", level="info", text="x", site=f"s{number}"))
    assert progress.news[-1] == "coordinator: 199 of 199 layers are released"
    assert len(progress.news) == 10


def test_many_sites_that_warn_of_the_same_fill_no_screen() -> None:
    progress = many(20)
    for number in range(20):
        progress.read_log(f"s{number}", LogLine(event="data", level="warning", text=f"no test picture {number}"))
    progress.read_log("s7", LogLine(event="other", level="error", text="fire"))
    assert progress.news == [
        "s0: no test picture 0",
        "s1: no test picture 1",
        "s2: no test picture 2",
        "s3 and others have more of this kind (data) in their logs",
        "s7: fire",
    ]


def test_of_a_thousand_sites_a_terminal_of_24_lines_shows_the_sums_and_who_is_behind() -> None:
    progress = many(1000)
    for number in range(1000):
        progress.read_ledger(f"s{number}", samples=0 if number == 777 else 5, up=1_000, down=10, elapsed_s=1.0)
    progress.read_metrics(step_metrics())
    console = Console(width=80, record=True, color_system=None, force_terminal=False)
    console.print(view(progress, 0.0))
    lines = console.export_text().replace("\N{NO-BREAK SPACE}", " ").splitlines()
    assert len(lines) <= 22
    assert lines[1].split() == ["all", "1,000", "sites", "4995", "of", "10000", "4995", "1.00", "MB", "10.0", "kB", "0"]
    assert lines[2].split()[:4] == ["s777", "0", "of", "10"]
