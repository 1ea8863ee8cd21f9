"""The page docs/guide/your_own_pictures.md, whose configurations and commands are carried out.

    python -m tests.support.own_pictures_page

writes what the commands print into the page.
"""

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from pathlib import Path
from unittest import mock

from examples.own_pictures import write_all
from mple.cli import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "your_own_pictures.md"
_BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"^```toml\n# (\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def with_output(page: str, folder: Path) -> str:
    """The page with what its commands print, one after the other, in this folder."""
    for name, text in _FILE.findall(page):
        (folder / name).write_text(text, encoding="utf-8")
    before = Path.cwd()
    os.chdir(folder)
    try:
        with mock.patch.dict(os.environ, {"COLUMNS": "80"}):
            return _BLOCK.sub(lambda block: "".join(map(_carried_out, block.group().splitlines())), page)
    finally:
        os.chdir(before)


def _carried_out(line: str) -> str:
    """A command with its output; a line of the output that the page has is none."""
    if not line.startswith("$ "):
        return ""
    typed, end, count = re.fullmatch(r"\$ (.*?)(?: \| (head|tail) -(\d+))?", line).groups()
    words = shlex.split(typed)
    output = io.StringIO()
    if words[0] == "python":
        write_all(Path(words[2]))
    elif words[0] == "head":
        output.writelines(Path(words[2]).read_text(encoding="utf-8").splitlines(keepends=True)[: -int(words[1])])
    else:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            main(words[1:])
    lines = [text.rstrip() for text in output.getvalue().splitlines()]
    shown = {None: lines, "head": lines[: int(count or 0)], "tail": lines[-int(count or 1) :]}[end]
    return "\n".join([line, *shown]) + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        made = with_output(PAGE.read_text(encoding="utf-8"), Path(place))
    PAGE.write_text(made, encoding="utf-8")
    sys.stdout.write(f"{PAGE.name} has what its commands print\n")
