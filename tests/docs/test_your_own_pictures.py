"""What the page on one's own pictures shows is what its commands print."""

from pathlib import Path

import pytest

pytest.importorskip("pydicom")

from tests.support.own_pictures_page import PAGE, with_output


def test_the_page_shows_what_its_commands_print(tmp_path: Path) -> None:
    """`python -m tests.support.own_pictures_page` writes it there."""
    page = PAGE.read_text(encoding="utf-8")
    assert with_output(page, tmp_path) == page
