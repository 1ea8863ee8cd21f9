"""Whatever is done to a trail is found: at the line where it was done, or against a head that was kept."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mple.audit import FILE_NAME, AuditTrail, read_entries, verify
from mple.audit.verification import Damage, Verdict

LINES = 8


def written(lines: int = LINES, beside: int = 0) -> list[bytes]:
    """The lines of a sound trail."""
    with tempfile.TemporaryDirectory() as folder:
        trail = AuditTrail(Path(folder) / FILE_NAME, "site/north")
        for number in range(lines):
            trail.append("site/north", "feed_open", "ok", number=number, beside=beside)
        trail.close()
        return (Path(folder) / FILE_NAME).read_bytes().splitlines()


TRAIL = written()


def judged(lines: list[bytes], head: str | None = None, end: bytes = b"\n") -> Verdict:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE_NAME
        path.write_bytes(b"\n".join(lines) + end if lines else b"")
        return verify(path, head)


NEWEST = judged(TRAIL).head


def test_a_sound_trail_is_sound_and_has_all_its_heads() -> None:
    verdict = judged(TRAIL)
    assert (verdict.sound, verdict.lines, verdict.damage) == (True, LINES, None)
    for lines in range(1, LINES):
        assert judged(TRAIL, head=judged(TRAIL[:lines]).head).sound


def test_an_empty_trail_is_sound() -> None:
    assert judged([]).sound
    assert judged([], head=NEWEST).damage is Damage.HEAD_MISSING


@given(st.integers(0, LINES - 1), st.data())
@settings(max_examples=300, deadline=None)
def test_any_other_byte_in_any_line_is_found(line: int, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(TRAIL[line]) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda value: value not in (TRAIL[line][place], 10)))
    changed = TRAIL[line][:place] + bytes([other]) + TRAIL[line][place + 1 :]
    verdict = judged([*TRAIL[:line], changed, *TRAIL[line + 1 :]], head=NEWEST)
    assert not verdict.sound
    if line < LINES - 1:
        assert (verdict.damage, verdict.line) == (Damage.CHANGED, line + 1)


@pytest.mark.parametrize("line", range(LINES - 1))
@pytest.mark.parametrize(
    ("field", "other"), [(b'"ok"', b'"no"'), (b'"site/north","what"', b'"site/south","what"'), (b'"number"', b'"n"')]
)
def test_a_fact_that_was_changed_by_one_who_knows_the_form(line: int, field: bytes, other: bytes) -> None:
    verdict = judged([*TRAIL[:line], TRAIL[line].replace(field, other), *TRAIL[line + 1 :]])
    assert (verdict.damage, verdict.line) == (Damage.CHANGED, line + 1)


@given(st.integers(0, LINES - 1), st.integers(1, LINES))
@settings(deadline=None)
def test_removed_lines_are_found(first: int, count: int) -> None:
    rest = [*TRAIL[:first], *TRAIL[first + count :]]
    verdict = judged(rest, head=NEWEST)
    assert not verdict.sound
    if first + count < LINES:
        assert (verdict.damage, verdict.line) == (Damage.REMOVED, first + 1)
    else:
        assert verdict.damage is Damage.HEAD_MISSING


@given(st.integers(0, LINES - 1), st.integers(0, LINES - 1))
@settings(deadline=None)
def test_swapped_lines_are_found(one: int, two: int) -> None:
    if one == two:
        return
    lines = TRAIL.copy()
    lines[one], lines[two] = lines[two], lines[one]
    verdict = judged(lines)
    assert (verdict.damage, verdict.line) == (Damage.REORDERED, min(one, two) + 1)


RUBBISH = st.binary(max_size=40).map(lambda line: line.replace(b"\n", b""))


@given(st.integers(0, LINES), st.sampled_from(TRAIL) | RUBBISH)
@settings(max_examples=200, deadline=None)
def test_an_inserted_line_is_found(place: int, line: bytes) -> None:
    verdict = judged([*TRAIL[:place], line, *TRAIL[place:]])
    assert not verdict.sound
    if place < LINES:
        assert verdict.damage is Damage.INSERTED
        assert verdict.line in (place + 1, place) or line in TRAIL


@pytest.mark.parametrize("place", range(1, LINES))
def test_a_forged_line_with_the_right_number_and_link_is_found(place: int) -> None:
    """The line that the forger made follows on the one before; it is the next one that gives it away."""
    forged = TRAIL[place].replace(b"feed_open", b"feed_shut")
    verdict = judged([*TRAIL[:place], forged, *TRAIL[place:]])
    assert (verdict.damage, verdict.line) == (Damage.INSERTED, place + 1)


def test_a_trail_written_anew_is_sound_but_lacks_the_head() -> None:
    anew = written(beside=1)
    assert judged(anew).sound
    assert judged(anew, head=NEWEST).damage is Damage.HEAD_MISSING


def test_a_torn_line_is_told_from_a_changed_one() -> None:
    verdict = judged(TRAIL[:-1], end=b"\n" + TRAIL[-1][:30])
    assert (verdict.damage, verdict.line) == (Damage.TORN, LINES)


@pytest.mark.parametrize("rubbish", [b"", b"[]", b"null", b"{}", b'{"sequence":1}', b"\xff\xfe", b"[" * 100_000])
def test_rubbish_is_no_line(rubbish: bytes, tmp_path: Path) -> None:
    assert judged([rubbish]).damage is Damage.CHANGED
    (tmp_path / FILE_NAME).write_bytes(rubbish + b"\n" + TRAIL[0] + b"\n")
    assert [entry.sequence for entry in read_entries(tmp_path / FILE_NAME)] == [1]
