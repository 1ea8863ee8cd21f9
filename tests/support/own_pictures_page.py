"""The page docs/guide/your_own_pictures.md, whose configurations and commands are carried out.

    python -m tests.support.own_pictures_page

writes what the commands print into the page.
"""

import sys
import tempfile
from pathlib import Path

from examples.own_pictures import write_all
from tests.support import page_output

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "your_own_pictures.md"


def with_output(page: str, folder: Path) -> str:
    """The page with what its commands print, one after the other, in this folder."""
    scripts = {"examples/own_pictures.py": lambda arguments: write_all(Path(arguments[0]))}
    return page_output.with_output(page, folder, scripts)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        made = with_output(PAGE.read_text(encoding="utf-8"), Path(place))
    PAGE.write_text(made, encoding="utf-8")
    sys.stdout.write(f"{PAGE.name} has what its commands print\n")
