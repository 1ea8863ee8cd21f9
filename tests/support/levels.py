"""The layers of the house, in one table: the tests hold the imports to it, the page on architecture shows it.

    python -m tests.support.levels

prints it with what each package says of itself, and writes that into the page.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "design" / "architecture.md"
NODES = ("coordinator", "compute_node", "provider_node")
OTHERS = (*NODES, "comparison")
"""Packages beside mple: they import it, it imports none of them, and they do not import each other."""
LEVELS = (
    (
        "exit_codes",
        "ranges",
        "extras",
        "machine",
        "printable",
        "console",
        "terminal",
        "per_node",
        "rounds",
        "disk",
        "v1",
    ),
    ("morph",),
    ("wire", "model"),
    ("metrics", "plan", "data", "privacy"),
    ("audit",),
    ("rpc", "pki", "meter"),
    ("records",),
    ("delivered",),
    ("node",),
    ("attacks",),
    ("simulate", "report", "doctor"),
    ("pictures", "prediction"),
    ("cli",),
)
"""Packages of mple from the bottom up; a module imports its own level and those below."""

_BETWEEN = re.compile(r"(?<=<!-- layers -->\n).*?(?=<!-- end of layers -->)", re.DOTALL)


def table() -> str:
    """The levels from the top down as markdown; what a package is, is the first line of its docstring."""
    rows = [f"| beside | `{name}` | {_word(ROOT / name)} |" for name in OTHERS]
    for level, packages in reversed(list(enumerate(LEVELS))):
        rows += [f"| {level} | `mple.{name}` | {_word(ROOT / 'mple' / name)} |" for name in packages]
    return "\n".join(["| level | package | what it is |", "| --- | --- | --- |", *rows, ""])


def page_with(text: str, rows: str) -> str:
    """The page with these rows in the place of those that it has."""
    return _BETWEEN.sub(lambda _: rows, text)


def _word(place: Path) -> str:
    source = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    words = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    if not words:
        return "messages and calls, generated from `protos/`"
    return words.splitlines()[0]


if __name__ == "__main__":
    sys.stdout.write(table())
    PAGE.write_text(page_with(PAGE.read_text(encoding="utf-8"), table()), encoding="utf-8")
