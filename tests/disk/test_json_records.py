"""Records come back as they were written; what is damaged, foreign or of another type is refused in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mple.disk.json_records import read_record, record_from_json, record_to_json, write_record


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    number: int
    note: str | None = None

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError(f"number = {self.number}; needs 0 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class Whole:
    size: float
    colour: Colour
    on: bool = False
    when: datetime = datetime(2026, 11, 24, tzinfo=UTC)
    path: Path = Path("a")
    parts: tuple[Part, ...] = ()
    one: Part | None = None
    names: frozenset[str] = frozenset()
    by_epoch: Mapping[int, str] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, str | int | float | bool] = field(default_factory=dict)


PARTS = st.builds(Part, number=st.integers(0), note=st.none() | st.text())
NUMBERS = st.floats(allow_nan=False)
WHOLES = st.builds(
    Whole,
    size=NUMBERS,
    on=st.booleans(),
    when=st.datetimes(timezones=st.just(UTC)),
    parts=st.lists(PARTS).map(tuple),
    one=st.none() | PARTS,
    names=st.frozensets(st.text()),
    by_epoch=st.dictionaries(st.integers(0), st.text()),
    shares=st.dictionaries(st.text(), NUMBERS),
    facts=st.dictionaries(st.text(), st.text() | st.integers() | NUMBERS | st.booleans()),
)


@given(WHOLES)
def test_a_record_comes_back(whole: Whole) -> None:
    assert record_from_json(Whole, record_to_json(whole), "here") == whole


def test_a_file_comes_back_whole_and_with_its_mode(tmp_path: Path) -> None:
    path, whole = tmp_path / "whole.json", Whole(size=1.0, colour=Colour.RED)
    write_record(path, whole, mode=0o600)
    assert read_record(Whole, path) == whole
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().startswith('{\n  "size": 1.0,\n  "colour": "red",')
    assert [one.name for one in tmp_path.iterdir()] == ["whole.json"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "here is not valid JSON: "),
        ("[" * 100_000, "here is not valid JSON: "),
        ("[]", r"here: the whole = \[\] is not a section"),
        ('{"size": 1}', "here: colour is missing"),
        ('{"size": 1, "colour": "red", "siz": 1}', "here: unknown key siz; did you mean size"),
        ('{"size": 1, "colour": "red", "zzz": 1}', "here: unknown key zzz; known keys: size, colour"),
        ('{"size": "1", "colour": "red"}', "here: size = '1' is not a number"),
        ('{"size": true, "colour": "red"}', "here: size = True is not a number"),
        ('{"size": 1, "colour": "green"}', "here: colour = 'green'; choose one of red, blue"),
        ('{"size": 1, "colour": "red", "on": 1}', "here: on = 1 is not true or false"),
        ('{"size": 1, "colour": "red", "when": "now"}', "here: when = 'now' is not a time as ISO 8601 writes it"),
        ('{"size": 1, "colour": "red", "parts": "abc"}', "here: parts = 'abc' is not a list"),
        (
            '{"size": 1, "colour": "red", "parts": [{"number": 1}, {"number": 1.5}]}',
            r"parts\[1\].number = 1.5 is not a",
        ),
        ('{"size": 1, "colour": "red", "parts": [{"number": -1}]}', r"here: \[parts\[0\]\] number = -1; needs 0"),
        (
            '{"size": 1, "colour": "red", "parts": [{"number": 1, "numbr": 1}]}',
            r"here: unknown key parts\[0\].numbr; did",
        ),
        ('{"size": 1, "colour": "red", "one": 3}', "here: one = 3 is not a section"),
        ('{"size": 1, "colour": "red", "one": {"number": true}}', "here: one.number = True is not a whole number"),
        ('{"size": 1, "colour": "red", "names": "abc"}', "here: names = 'abc' is not a list"),
        ('{"size": 1, "colour": "red", "by_epoch": {"a": "b"}}', "here: by_epoch has the keys a, not all of which"),
        ('{"size": 1, "colour": "red", "shares": {"a": "b"}}', r"here: shares\['a'\] = 'b' is not a number"),
        ('{"size": 1, "colour": "red", "facts": {"a": []}}', r"here: facts\['a'\] is none of the plain values"),
        ('{"size": "' + 1000 * "x" + '", "colour": "red"}', "here: size = 'x{199}... is not a number"),
    ],
)
def test_what_does_not_fit_is_told_in_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as refused:
        record_from_json(Whole, text, "here")
    assert "\n" not in str(refused.value)
