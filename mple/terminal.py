"""The one way to a terminal: what is printed there is printable (`mple.printable`), whoever's words are in it.

Programs print by `echo`, and tables on the console of `wide_console`; on stderr, where tracebacks and warnings of any
library go, the stream itself sees to it. A test refuses other ways.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from mple.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

_WIDE = 160


def echo(*lines: str) -> None:
    """Print lines on stdout; a line end within one is shown as `\\n`."""
    for line in lines:
        print(printable(line))


def wide_console() -> Console:
    """Wide enough for tables where there is no terminal to ask; texts are no markup, and printable."""
    # It takes a moment to load: nodes do not need it.
    from mple.console import PrintableConsole

    console = PrintableConsole()
    return console if console.is_terminal or "COLUMNS" in os.environ else PrintableConsole(width=_WIDE)


@contextmanager
def printable_output() -> Iterator[None]:
    """Within the block each line on stderr is printable, and what an encoding lacks is escaped on both streams."""
    plain = sys.stderr
    for stream in (sys.stdout, plain):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.stderr = _PrintableStream(plain)
    try:
        yield
    finally:
        sys.stderr = plain


class _PrintableStream(io.TextIOBase):
    """Another stream, behind it. Line ends stay: what comes here is formatted."""

    def __init__(self, behind: TextIO) -> None:
        self._behind = behind

    def write(self, text: str) -> int:
        self._behind.write("\n".join(map(printable, text.split("\n"))))
        return len(text)

    def flush(self) -> None:
        self._behind.flush()

    def isatty(self) -> bool:
        return self._behind.isatty()

    def fileno(self) -> int:
        return self._behind.fileno()

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._behind.encoding
