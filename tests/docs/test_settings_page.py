"""The page of all settings is what the code says, and says all of it."""

from __future__ import annotations

from docs.settings_page import FILES, PAGE, page
from mple.ranges import declared_ranges


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "a setting has changed; run: make settings"


def test_ranges_choices_defaults_and_meanings_are_there() -> None:
    text = page()
    for row in (
        "| `releases` | whole number, 1 to 255 | `4` | How often a site may send one sample in a run,",
        '| `policy` | `wait`, `proceed` | `"wait"` | What becomes of a run when a site stays away. `wait`: Training',
        "| `mean` | list of numbers | `[0.5]` |",
        "| `shares` | list of numbers, each above 0 | `[]` |",
        "| `listen` | text |  | Address and port,",
        "| `side_px` | `folder`, `dicom`, `dicomweb` | whole number, 1 to 4096 | left out |",
    ):
        assert row in text
    assert [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")] == list(FILES)
    assert all(str(rule) in text for kind in FILES.values() for rule in declared_ranges(kind).values())
