"""A headless Chromium of this machine, and a look at a page such as a reader would take it, in numbers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, ViewportSize, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_SWITCHES = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LOOK = (Path(__file__).parent / "look.js").read_text(encoding="utf-8")
"""A function that returns the faults of the page that is shown, as sentences."""


def found_browser() -> str | None:
    """A Chromium or Chrome on the path."""
    return next((path for path in map(shutil.which, NAMES) if path is not None), None)


@contextmanager
def opened_browser() -> Iterator[Browser]:
    """The browser, closed at the end."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found_browser(), args=_SWITCHES)
        try:
            yield browser
        finally:
            browser.close()


def faults_of(browser: Browser, page: Path, *, width_px: int, dark: bool) -> list[str]:
    """What is wrong with a page at a width and in a colour scheme, with all that can be unfolded unfolded."""
    size = ViewportSize(width=width_px, height=900)
    context = browser.new_context(viewport=size, color_scheme="dark" if dark else "light", offline=True)
    faults: list[str] = []
    try:
        tab = context.new_page()
        tab.on("console", lambda message: faults.append(f"console: {message.text}"))
        tab.on("pageerror", lambda error: faults.append(f"error: {error}"))
        tab.on("request", lambda request: asked.append(request.url))
        asked: list[str] = []
        tab.goto(page.as_uri())
        faults += [f"folded: {fault}" for fault in tab.evaluate(LOOK)]
        tab.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        faults += tab.evaluate(LOOK)
        loaded = [url for url in asked if url != page.as_uri() and not url.startswith("data:")]
        return faults + [f"request: {url}" for url in loaded]
    finally:
        context.close()
