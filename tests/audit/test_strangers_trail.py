"""Trails of strangers: endless lines, lines without number, pipes and links; and what is shown of their words."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from mple.audit import FILE_NAME, AuditTrail, read_entries, verification, verify
from mple.audit.verification import Damage
from mple.cli import main
from mple.disk.bounded import UnsoundFileError
from mple.exit_codes import ExitCode


def trail_of(path: Path, lines: int) -> Path:
    trail = AuditTrail(path, "site/north")
    for number in range(lines):
        trail.append("site/north", "feed_open", "ok", number=number)
    trail.close()
    return path


def test_an_endless_line_is_a_torn_one_and_takes_little_memory(tmp_path: Path) -> None:
    path = trail_of(tmp_path / FILE_NAME, 2)
    with path.open("ab") as file:
        file.write(b"x" * 50_000_000)
    tracemalloc.start()
    try:
        found = verify(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert (found.damage, found.line, found.why) == (
        Damage.TORN, 3, "50000000 bytes at the end are no whole line"
    )  # fmt: skip
    assert len(list(read_entries(path))) == 2


def test_a_long_line_between_others_is_a_line_of_its_own(tmp_path: Path) -> None:
    path = trail_of(tmp_path / FILE_NAME, 2)
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b"x" * 3_000_000 + b"\n" + second)
    found = verify(path)
    assert (found.damage, found.line, found.lines) == (Damage.INSERTED, 2, 3)


def test_a_terabyte_is_not_read(tmp_path: Path) -> None:
    os.truncate(trail_of(tmp_path / FILE_NAME, 1), 1 << 40)
    for read in (verify, lambda path: list(read_entries(path))):
        with pytest.raises(UnsoundFileError, match="has 1,099,511,627,776 bytes"):
            read(tmp_path / FILE_NAME)


def test_lines_without_number_are_not_counted_to_their_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "_MOST_LINES", 1_000)
    (tmp_path / FILE_NAME).write_bytes(b"\n" * 1_001)
    with pytest.raises(UnsoundFileError, match="more than 1,000 lines"):
        verify(tmp_path / FILE_NAME)


@pytest.mark.parametrize("sequence", [b"-1", b"0", b"99999999999999999999", b"1e300", b"true", b'"1"'])
def test_a_number_that_is_none(sequence: bytes, tmp_path: Path) -> None:
    path = trail_of(tmp_path / FILE_NAME, 3)
    path.write_bytes(path.read_bytes().replace(b'"sequence":2', b'"sequence":' + sequence))
    found = verify(path)
    assert not found.sound
    assert found.line == 2


def test_a_pipe_is_not_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / FILE_NAME)
    for verb in ("verify", "show"):
        assert main(["audit", verb, str(tmp_path / FILE_NAME)]) == ExitCode.BAD_USAGE
        assert main(["audit", verb, str(tmp_path)]) == ExitCode.BAD_USAGE
    told = capsys.readouterr().err
    assert "no regular file" in told
    assert "neither a file nor a folder" in told


def test_a_link_out_of_a_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    trail_of(tmp_path / FILE_NAME, 1)
    (tmp_path / "run" / FILE_NAME).symlink_to(tmp_path / FILE_NAME)
    assert main(["audit", "verify", str(tmp_path / "run")]) == ExitCode.BAD_USAGE
    assert "outside" in capsys.readouterr().err


def test_words_of_a_stranger_are_printable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Written by another program than ours: ours makes them printable when it writes them."""
    path = trail_of(tmp_path / FILE_NAME, 1)
    odd = b"a\\u001b[2J\\u202e\\nb" + b"x" * 100_000
    path.write_bytes(path.read_bytes().replace(b"feed_open", odd))
    assert main(["audit", "show", str(path)]) == ExitCode.DONE
    (line,) = capsys.readouterr().out.splitlines()
    assert line.isprintable()
    assert len(line) <= 2_000
    assert "a\\u001b[2J\\u202e\\nb" in line


def test_who_and_what_are_written_printably(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path / FILE_NAME, "site/north")
    trail.append("site/\x1b[2J", "a\nb", "x" * 100_000, detail="\u2028\ud800")
    trail.close()
    (found,) = read_entries(tmp_path / FILE_NAME)
    assert (found.who, found.what, len(found.result)) == ("site/\\u001b[2J", "a\\nb", 200)
    assert found.facts == {"detail": "\\u2028\\ud800"}
