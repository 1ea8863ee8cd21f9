"""Configuration files that are meant to break their reader: each command that takes one says a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mple.cli import main
from mple.exit_codes import ExitCode
from mple.plan import SettingsError
from mple.plan.reader import read_toml

TEXTS: dict[str, tuple[bytes, str]] = {
    "deep list": (b"a = " + b"[" * 100_000, "nested too deep"),
    "closed deep list": (b"a = " + b"[" * 2_000 + b"]" * 2_000, "nested too deep"),
    "deep tables": (b"a = " + b"{b = " * 50_000, "nested too deep"),
    "key of many parts": (b"a." * 100_000 + b"a = 1", "key of 100,001 parts"),
    "header of many parts": (b"[" + b"a." * 100_000 + b"a]", "key of 100,001 parts"),
    "quoted parts": (b'"a".' * 100_000 + b"a = 1", "key of 100,001 parts"),
    "parts in a table": (b"a = {" + b"a . " * 100_000 + b"a = 1}", "key of 100,001 parts"),
    "giant": (b"a = 1\n" * 1_000_000, "more than 4,194,304 bytes"),
    "giant text": (b'a = "' + b"x" * 5_000_000 + b'"', "more than 4,194,304 bytes"),
    "digits": (b"a = " + b"1" * 100_000, "not valid TOML"),
    "no text": (b"a = \xff\xfe", "not valid TOML"),
    "UTF-16": ("a = 1\n".encode("utf-16"), "not valid TOML"),
    "NUL": (b"a = \0", "not valid TOML"),
    "no date": (b"a = 2026-99-99", "not valid TOML"),
    "steers": ("a = \x1b[2J\u202e".encode(), "not valid TOML"),
    "twice": (b"a = 1\na = 2", "not valid TOML"),
}
COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "simulate": lambda path: ["simulate", str(path), "--out", str(path.parent / "run")],
    "data show": lambda path: ["data", "show", str(path)],
    "doctor": lambda path: ["doctor", str(path)],
    "keys": lambda path: ["keys", "show", str(path)],
    "privacy": lambda path: ["privacy", "plan", str(path)],
}


@pytest.mark.parametrize(("text", "said"), TEXTS.values(), ids=TEXTS)
def test_a_file_that_exhausts_its_reader_gets_a_sentence(text: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(text)
    with pytest.raises(SettingsError) as refused:
        read_toml(tmp_path / "a.toml")
    assert said in str(refused.value)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 1_000


@pytest.mark.parametrize("name", ["deep list", "key of many parts", "digits", "steers"])
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_command_says_it(
    command: Callable[[Path], list[str]], name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, said = TEXTS[name]
    (tmp_path / "a.toml").write_bytes(text)
    assert main(command(tmp_path / "a.toml")) == ExitCode.BAD_USAGE
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told
    assert all(line.isprintable() for line in told.split("\n"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'[data]\nkind = "x\\u001b[2J"', "kind"),
        (b'sites = ["a\\u202e"]', "use 1 to 63"),
        (b'sites = ["../a"]', "use 1 to 63"),
        (b'consortium = "a\\u001b[2J"', "use 1 to 63"),
        (b'"a\\u001b[2J" = 1', "unknown key"),
        (b'"' + b"k" * 1_000_000 + b'" = 1', "unknown key"),
        (b'custody = "' + b"k" * 1_000_000 + b'"', "choose one of"),
        (b"sites = [" + b"1," * 100_000 + b"]", "is not a text"),
        (b"[training]\nepochs = 1e999", "not a whole number"),
        (b"[training]\npeak_lr = nan", "allowed are"),
        (b"[training]\npeak_lr = inf", "allowed are"),
        (b"[training]\nepochs = " + b"9" * 4_000, "allowed are"),
    ],
)
def test_a_value_that_is_none_is_named_printably(
    text: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.toml").write_bytes(text)
    assert main(["simulate", str(tmp_path / "a.toml"), "--out", str(tmp_path / "run"), "--check"]) == ExitCode.BAD_USAGE
    told = capsys.readouterr().err
    assert said in told
    assert len(told) < 3_000
    assert all(line.isprintable() for line in told.split("\n"))


def test_what_people_write_is_read(tmp_path: Path) -> None:
    text = 'names = ["Dr. A. B. C.", "1.2.3.4.5"]\nmean = [' + "0.5, " * 200 + "]\n[a.b.c]\nd.e = '...'\n"
    (tmp_path / "a.toml").write_text(text, encoding="utf-8")
    assert read_toml(tmp_path / "a.toml")["a"] == {"b": {"c": {"d": {"e": "..."}}}}


@pytest.mark.parametrize("value", ["[" * 100_000, "{a = " * 10_000, "9" * 10_000, "a\x1b[2J"])
def test_an_option_that_exhausts_the_reader_is_a_plain_text(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--out", "x", "--check", "--set", f"custody={value}"]) == ExitCode.BAD_USAGE
    assert "choose one of" in capsys.readouterr().err
