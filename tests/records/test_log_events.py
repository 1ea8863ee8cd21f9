"""What nodes log and what the live view reads are the same words."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mple.node.logs import open_log, warn
from mple.records.log_events import LogEvent, LogLine, read_log_line
from mple.records.state_files import LOG


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    kept, level = root.handlers[:], root.level
    yield logging.getLogger("mple.test")
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = kept
    root.setLevel(level)


def test_a_line_comes_back_as_it_was_logged(tmp_path: Path, logger: logging.Logger) -> None:
    open_log(tmp_path, "north")
    warn(LogEvent.PARTY_JOINED, "it is here", party="site/north", tries=3)
    logger.info("free words")
    first, second = map(read_log_line, (tmp_path / "log.jsonl").read_bytes().splitlines())
    assert first == LogLine(event="party_joined", level="warning", text="it is here", party="site/north")
    assert first.event == LogEvent.PARTY_JOINED
    assert second == LogLine(event="log", level="info", text="free words")


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"3", b"{}", b'{"event": 3, "level": "info", "text": ""}'])
def test_what_is_no_line_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match="a node's log"):
        read_log_line(line)


def test_a_log_whose_terminal_has_gone_goes_on_in_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    open_log(tmp_path, "north")
    terminal.close()
    monkeypatch.undo()
    warn("beat", "after the terminal")
    assert "after the terminal" in (tmp_path / LOG).read_text(encoding="utf-8")
    assert "Logging error" not in capsys.readouterr().err
