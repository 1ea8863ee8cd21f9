"""The pages as a reader meets them, in a real browser: wide and narrow, light and dark, on paper, without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from mple.plan import TrainingSettings
from mple.report.comparison import compare, write_comparison_page
from mple.report.page import write_page
from tests.support.browser import faults_of, found_browser, opened_browser
from tests.support.finished_run import finished_run
from tests.support.scored_run import scored_run
from tests.support.small_plan import small_plan

pytestmark = pytest.mark.skipif(found_browser() is None, reason="no Chromium or Chrome on the path; see 'make browser'")
SECTIONS = ["scores", "overhead", "time", "sizes", "methods", "training", "pictures", "faults", "plan", "hashes"]
NAMES = {"a-site-with-a-rather-long-name-from-a-town-far-away": (9, 4), "north": (5, 3), "south": (6, 2)}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run in which something went wrong and a name is long; one with more sites than fit; and two runs compared."""
    folder = tmp_path_factory.mktemp("runs")
    long_names = small_plan(sizes=NAMES, channels=3, training=TrainingSettings(epochs=3))
    many = small_plan(sizes={f"site-{number}": (4, 1) for number in range(12)})
    finished_run(folder / "first", plan=long_names, absent=True)
    first, _ = scored_run(folder / "first", long_names)
    second = finished_run(folder / "second", plan=many, accuracy=0.8, data_bytes=150)
    write_comparison_page(compare(first, second), folder / "both.html")
    return {"run": write_page(first), "many": write_page(second), "both": folder / "both.html"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with opened_browser() as browser:
        yield browser


@pytest.mark.parametrize(
    ("name", "width_px", "dark"),
    [(name, width_px, dark) for name in ("run", "both") for width_px in (1280, 390) for dark in (False, True)]
    + [("many", 1280, False), ("many", 390, True)],
)
def test_nothing_is_wrong_with_a_page(
    pages: dict[str, Path], browser: Browser, name: str, width_px: int, dark: bool
) -> None:
    assert faults_of(browser, pages[name], width_px=width_px, dark=dark) == []


def test_every_section_is_there_and_reached_from_the_top(pages: dict[str, Path], browser: Browser) -> None:
    tab = browser.new_page()
    tab.goto(pages["run"].as_uri())
    assert tab.eval_on_selector_all("section", "all => all.map(one => one.id)") == SECTIONS
    links = tab.eval_on_selector_all("nav a", "all => all.map(one => one.getAttribute('href'))")
    assert links == [f"#{section}" for section in SECTIONS]
    assert tab.locator("h1").count() == 1
    tab.close()


def test_it_is_printed_dark_on_white_from_a_dark_screen_too(pages: dict[str, Path], browser: Browser) -> None:
    tab = browser.new_page(color_scheme="dark")
    tab.goto(pages["run"].as_uri())
    screen = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    tab.emulate_media(media="print")
    paper = tab.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
    assert screen != paper[0]
    assert paper == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
    assert tab.pdf(format="A4").startswith(b"%PDF")
    tab.close()


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<div style='width: 2000px'>wide</div>", "scrolls sideways"),
        ("<p style='color: #999'>faint</p>", "contrast 2.85"),
        ("<p style='font-size: 9px'>tiny</p>", "only 9 px"),
        ("<svg><text y='20'>one</text><text y='22'>two</text></svg>", "overlaps"),
        ("<svg width='300' height='20'><rect/></svg>", "without a name"),
        ("<div style='width: 40px; overflow: hidden; white-space: nowrap'>cut off here</div>", "clipped"),
        ("<section id='s' style='display: none'>gone</section>", "section #s is not visible"),
        ("<img src='https://example.invalid/a.png' alt='far'>", "request: https://example.invalid/a.png"),
        ("<script>console.error('oh')</script>", "console: oh"),
    ],
)
def test_the_look_sees_what_is_wrong(tmp_path: Path, browser: Browser, body: str, fault: str) -> None:
    page = tmp_path / "bad.html"
    page.write_text(f"<!doctype html><body style='background: #fff; color: #000'>{body}</body>", encoding="utf-8")
    assert any(fault in found for found in faults_of(browser, page, width_px=390, dark=False))
