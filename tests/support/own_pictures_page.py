"""Pages of docs/guide whose configurations and commands are carried out: on one's own pictures, and on tasks.

    python -m tests.support.own_pictures_page

writes what the commands print into the pages.
"""

import importlib
import sys
import tempfile
from pathlib import Path

from tests.support import page_output

_GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide"
_EXAMPLES = {"your_own_pictures.md": "own_pictures", "tasks.md": "several_labels"}
"""Which module of examples makes a page's pictures."""
PAGES = tuple(_GUIDE / name for name in _EXAMPLES)


def with_output(page: Path, folder: Path) -> str:
    """A page with what its commands print, one after the other, in this folder."""
    name = _EXAMPLES[page.name]
    script = importlib.import_module(f"examples.{name}").write_all
    scripts = {f"examples/{name}.py": lambda arguments: script(Path(arguments[0]))}
    return page_output.with_output(page.read_text(encoding="utf-8"), folder, scripts)


if __name__ == "__main__":
    for page in PAGES:
        with tempfile.TemporaryDirectory() as place:
            made = with_output(page, Path(place))
        page.write_text(made, encoding="utf-8")
        sys.stdout.write(f"{page.name} has what its commands print\n")
