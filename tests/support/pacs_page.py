"""The page docs/guide/pacs.md, whose configurations and commands are carried out beside an Orthanc.

    python -m tests.support.pacs_page

writes what the commands print into the page.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from examples import pacs
from tests.support import page_output
from tests.support.orthanc import running_orthanc

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "pacs.md"
_ADDRESS = "127.0.0.1:8042"


def with_output(page: str, folder: Path) -> str:
    """The page with what its commands print, one after the other, in this folder."""
    with running_orthanc(folder / "orthanc") as server:
        address = server.root.removeprefix("http://")
        shutil.copy(server.password_file, folder / "pacs-password")  # the mode, too
        made = page_output.with_output(page.replace(_ADDRESS, address), folder, {"examples.pacs": pacs.main})
        return made.replace(address, _ADDRESS)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        made = with_output(PAGE.read_text(encoding="utf-8"), Path(place))
    PAGE.write_text(made, encoding="utf-8")
    sys.stdout.write(f"{PAGE.name} has what its commands print\n")
