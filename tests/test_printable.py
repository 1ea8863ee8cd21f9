"""Texts that steer a terminal, hide or pose as others, and what is shown of them; who may print at all."""

from __future__ import annotations

import ast
import io
import json
import logging
import sys
import tomllib
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from mple.console import PrintableConsole
from mple.node.ending import say_fault
from mple.node.logs import log, open_log
from mple.printable import (
    is_host_name,
    printable,
    printable_lines,
    require_name,
    require_printable,
    spreadsheet_cell,
)
from mple.report.tables import say, table_of
from mple.rpc import ErrorCode, MpleError, Party
from mple.terminal import echo, printable_output
from tests.test_layers import FILES, name_of

STEERING = {
    "clear": "\x1b[2J",
    "colour": "\x1b[8m",
    "title": "\x1b]0;x\x07",
    "link": "\x1b]8;;http://x\x1b\\",
    "one-byte CSI": "\x9b2J",
    "back": "\b",
    "bell": "\a",
    "nul": "\0",
    "delete": "\x7f",
    "return": "\r",
    "line end": "\n",
    "tab": "\t",
    "vertical tab": "\v",
    "form feed": "\f",
    "next line": "\x85",
    "line separator": "\u2028",
    "paragraph separator": "\u2029",
    "override": "\u202e",
    "embedding": "\u202a",
    "pop": "\u202c",
    "isolate": "\u2066",
    "pop isolate": "\u2069",
    "left-to-right mark": "\u200e",
    "arabic mark": "\u061c",
    "zero width": "\u200b",
    "joiner": "\u200d",
    "word joiner": "\u2060",
    "byte order mark": "\ufeff",
    "soft hyphen": "\xad",
    "grapheme joiner": "\u034f",
    "hangul filler": "\u3164",
    "half-width filler": "\uffa0",
    "blank braille": "\u2800",
    "variation": "\ufe0f",
    "variation beyond the plane": "\U000e0100",
    "tag": "\U000e0041",
    "lone surrogate": "\ud800",
    "undecodable byte": "\udcff",
    "private use": "\ue000",
    "no character": "\uffff",
    "annotation": "\ufff9",
}
KEPT = ("north", "Hämangiom", "Tumor, Grad III", "опухоль", "腫瘍", "ورم", "גידול", "1.5 MB", "−3 %", "a\\n", "🙂")


@pytest.mark.parametrize("sign", STEERING.values(), ids=STEERING)
def test_what_steers_is_shown_as_an_escape(sign: str) -> None:
    shown = printable(f"a{sign}b")
    assert shown.startswith("a\\")
    assert shown.endswith("b")
    assert shown.isprintable()
    if not any(0xD800 <= ord(one) < 0xE000 for one in sign):
        assert tomllib.loads(f'v = "{shown}"')["v"] == f"a{sign}b" or "\\" in sign


@pytest.mark.parametrize("text", KEPT)
def test_what_people_write_stays(text: str) -> None:
    assert printable(text) == text


@given(st.text())
def test_what_is_printable_already_comes_back_equal(text: str) -> None:
    shown = printable(text)
    assert printable(shown) == shown
    assert not {unicodedata.category(sign) for sign in shown} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(st.text(), st.integers(40, 100))
def test_what_is_too_long_is_cut(text: str, most: int) -> None:
    assert len(printable(text * 50, most)) <= most


def test_the_cut_says_how_long_the_text_was() -> None:
    assert printable("x" * 1_000_000, 40) == "x" * 14 + "... (1,000,000 characters)"
    assert printable("x" * 40, 40) == "x" * 40


def test_marks_do_not_pile_up() -> None:
    assert printable("e\u0301\u0302") == "e\u0301\u0302"
    assert printable("e" + 6 * "\u0301") == "e" + 4 * "\u0301" + "\\u0301\\u0301"


def test_a_later_line_is_indented() -> None:
    assert printable_lines("broken\nmple: fix: none\x1b[A") == "broken\n  mple: fix: none\\u001b[A"


NAMES = ("north", "a", "a-b", "0", "x" * 63)
NO_NAMES = ("", "North", "a_b", "-a", "a-", "a b", "a\n", "x" * 64, "ä", "../a", "a/b", "a.b", "а", "\u202ea", "١")


@pytest.mark.parametrize("text", NAMES)
def test_names(text: str) -> None:
    require_name("name", text)


@pytest.mark.parametrize("text", NO_NAMES)
def test_no_names(text: str) -> None:
    with pytest.raises(ValueError, match="use 1 to 63 lower-case letters") as refused:
        require_name("name", text)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("text", ["Tumor", "Hämangiom", "x" * 200, "a\xa0b"])
def test_class_names(text: str) -> None:
    require_printable("class", text)


@pytest.mark.parametrize("text", ["", "x" * 201, *(f"a{sign}" for sign in STEERING.values())])
def test_no_class_names(text: str) -> None:
    with pytest.raises(ValueError, match="that can be printed") as refused:
        require_printable("class", text)
    assert str(refused.value).isprintable()


HOSTS = ("compute.hospital.example", "gpu1", "a-b.c", "xn--mnchen-3ya.de", "A.B", "a1.2b", "x" * 63 + ".de")
NO_HOSTS = (
    *("", ".", "a.", ".a", "a..b", "*.a.de", "*", "a_b", "-a", "a-", "1.2.3.4", "1.2.3", "256.1.1.1", "a b", "a:1"),
    *("a/b", "münchen.de", "a\n", "a\x1b[A", "x" * 64, "a." * 126 + "ab", "fe80::1%eth0", "a\0.de"),
)


@pytest.mark.parametrize("text", HOSTS)
def test_host_names(text: str) -> None:
    assert is_host_name(text)


@pytest.mark.parametrize("text", NO_HOSTS)
def test_no_host_names(text: str) -> None:
    assert not is_host_name(text)


CELLS = {
    "=1+1": "'=1+1",
    "+1": "'+1",
    "-1": "'-1",
    "@SUM(A1)": "'@SUM(A1)",
    "\t=1": "'\\t=1",
    "\r=1": "'\\r=1",
    "\n=1": "'\\n=1",
    " =1": "' =1",
    "＝1": "'＝1",
    "data": "data",
    "a=b": "a=b",
    "": "",
    "a\x1b": "a\\u001b",
}


@pytest.mark.parametrize(("text", "cell"), CELLS.items())
def test_no_cell_is_a_formula(text: str, cell: str) -> None:
    assert spreadsheet_cell(text) == cell
    assert spreadsheet_cell(text.encode()) == cell


@pytest.mark.parametrize("number", [0, -1, 1.5, -2.5, None])
def test_numbers_stay_numbers(number: float | None) -> None:
    assert spreadsheet_cell(number) is number


@pytest.fixture
def root_log() -> Iterator[logging.Logger]:
    """The root logger, as it was before."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def every_sign() -> str:
    return "".join(STEERING.values())


def test_a_log_is_printable(tmp_path: Path, capsys: pytest.CaptureFixture[str], root_log: logging.Logger) -> None:
    open_log(tmp_path, "site/north")
    log("word", f"said {every_sign()}", detail=every_sign(), path="\udcff", count=3)
    root_log.error("failed: %s", "x" * 1_000_000)
    try:
        raise ValueError(every_sign())
    except ValueError as fault:
        root_log.error("worse", exc_info=fault)
    told = capsys.readouterr().err
    assert all(line.isprintable() for line in told.split("\n"))
    text = (tmp_path / "log.jsonl").read_text(encoding="ascii")
    assert len(text) < 20_000
    first, second, third = map(json.loads, text.split("\n")[:3])
    assert first["text"].isprintable()
    assert first["detail"].isprintable()
    assert (first["path"], first["count"]) == ("\\udcff", 3)
    assert len(second["text"]) == 2_000
    assert all(line.isprintable() for line in third["traceback"].split("\n"))


def test_a_fault_is_said_printably(capsys: pytest.CaptureFixture[str]) -> None:
    say_fault("mple", MpleError(ErrorCode.INTERNAL, every_sign(), fix=f"call {every_sign()}\nmple: all is well"))
    say_fault("mple", ValueError("no file /tmp/a\nmple: fix: rm -r /"))
    lines = capsys.readouterr().err.split("\n")
    assert all(line.isprintable() for line in lines)
    assert [line for line in lines if line.startswith("mple: ")][2:] == ["mple: no file /tmp/a"]


def test_errors_of_peers_are_bounded() -> None:
    assert len(str(MpleError(ErrorCode.INTERNAL, "x" * 1_000_000))) < 3_000


def test_stderr_is_printable_whoever_writes(capsys: pytest.CaptureFixture[str]) -> None:
    with printable_output():
        sys.stderr.write(warnings.formatwarning(f"bad tag {every_sign()}", UserWarning, "a.py", 1))
        print("a\x1b[2J", file=sys.stderr)
        sys.excepthook(ValueError, ValueError("b\x1b[2J"), None)
    told = capsys.readouterr().err
    assert told.count("\\u001b[2J") == 3
    assert all(line.isprintable() for line in told.split("\n"))


def test_an_encoding_that_lacks_a_letter_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii"))
    with printable_output():
        echo("Hämangiom \udcff")
        sys.stdout.flush()
    assert raw.getvalue() == b"H\\xe4mangiom \\udcff\n"


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
def test_tables_and_sentences_are_printable(terminal: bool) -> None:
    file = io.StringIO()
    console = PrintableConsole(file=file, width=1_000, force_terminal=terminal, color_system=None)
    table = table_of(f"title {every_sign()}", [f"heading {every_sign()}"], ["number"])
    table.add_row(f"cell {every_sign()} [/red] [link=http://x]y :bug:", "1")
    table.add_row(Text(f"text {every_sign()}"), "2")
    console.print(table)
    say(console, f"sentence {every_sign()}\nanother [bold]")
    shown = file.getvalue()
    assert all(line.isprintable() for line in shown.split("\n"))
    assert "[/red] [link=http://x]y :bug:" in shown
    assert "\\nanother [bold]" in shown


def test_own_colours_stay() -> None:
    file = io.StringIO()
    table = Table()
    table.add_column("a", style="bold")
    table.add_row("b\x1b[2J")
    PrintableConsole(file=file, force_terminal=True, color_system="standard").print(table)
    assert "\x1b[1m" in file.getvalue()
    assert "\x1b[2J" not in file.getvalue()


def test_an_identity_is_quoted_printably() -> None:
    for uri in (f"mple://a/site/{every_sign()}", every_sign(), "mple://a/site/" + "x" * 1_000_000):
        with pytest.raises(ValueError, match=r"use 1 to 63|no identity") as refused:
            Party.parse(uri)
        assert str(refused.value).isprintable()
        assert len(str(refused.value)) < 1_000


OWNERS = {"mple.terminal", "mple.console", "mple.node.ending"}
"""Who may write to a terminal by itself: all that they write is printable."""


def test_nobody_else_prints() -> None:
    found = [
        f"{path}:{node.lineno}: {ast.unparse(node.func)}"
        for path in FILES
        if name_of(path) not in OWNERS
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in {"print", "typer.echo", "click.echo", "Console", "rich.print", "typer.secho"}
    ]
    assert found == []
