"""What the pages on one's own pictures and on tasks show is what their commands print."""

from pathlib import Path

import pytest

from tests.support.own_pictures_page import PAGES, with_output


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_shows_what_its_commands_print(page: Path, tmp_path: Path) -> None:
    """`python -m tests.support.own_pictures_page` writes it there."""
    if page.stem == "your_own_pictures":
        pytest.importorskip("pydicom")
    assert with_output(page, tmp_path) == page.read_text(encoding="utf-8")
