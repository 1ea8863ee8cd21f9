"""What the page on a hospital's PACS shows is what its commands print, beside a real one."""

from pathlib import Path

import pytest

pytest.importorskip("dicomweb_client")

from tests.support.orthanc import missing_orthanc
from tests.support.pacs_page import PAGE, with_output


@pytest.mark.skipif(bool(missing_orthanc()), reason=missing_orthanc())
def test_the_page_shows_what_its_commands_print(tmp_path: Path) -> None:
    """`python -m tests.support.pacs_page` writes it there."""
    page = PAGE.read_text(encoding="utf-8")
    assert with_output(page, tmp_path) == page
