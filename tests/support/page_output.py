"""Pages whose configurations and commands are carried out: what the commands print stands in the page."""

import contextlib
import io
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from unittest import mock

from mple.cli import main

Scripts = Mapping[str, Callable[[Sequence[str]], object]]
"""What `python NAME ...` stands for in a page; `python -m NAME ...` likewise."""
_BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"^```toml\n# (\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def with_output(page: str, folder: Path, scripts: Scripts) -> str:
    """The page with what its commands print, one after the other, in this folder."""
    for name, text in _FILE.findall(page):
        (folder / name).write_text(text, encoding="utf-8")
    before = Path.cwd()
    os.chdir(folder)
    try:
        with mock.patch.dict(os.environ, {"COLUMNS": "80"}):
            return _BLOCK.sub(
                lambda block: "".join(_carried_out(line, scripts) for line in block.group().splitlines()), page
            )
    finally:
        os.chdir(before)


def _carried_out(line: str, scripts: Scripts) -> str:
    """A command with its output; a line of the output that the page has is none."""
    if not line.startswith("$ "):
        return ""
    typed, end, count = re.fullmatch(r"\$ (.*?)(?: \| (head|tail) -(\d+))?", line).groups()
    words = shlex.split(typed.replace("python -m ", "python "))
    output = io.StringIO()
    if words[0] == "python":
        scripts[words[1]](words[2:])
    elif words[0] == "head":
        output.writelines(Path(words[2]).read_text(encoding="utf-8").splitlines(keepends=True)[: -int(words[1])])
    else:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            main(words[1:])
    lines = [text.rstrip() for text in output.getvalue().splitlines()]
    shown = {None: lines, "head": lines[: int(count or 0)], "tail": lines[-int(count or 1) :]}[end]
    return "\n".join([line, *shown]) + "\n"
