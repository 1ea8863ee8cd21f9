"""Records come back as they were written; what is damaged, foreign or of another type is refused in one sentence."""

from __future__ import annotations

import hashlib
import math
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mple.disk.damage import DamagedError
from mple.disk.json_records import canonical_json, read_record, record_from_json, record_to_json, write_record
from mple.exit_codes import ExitCode


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
    write_record(path, whole)
    assert read_record(Whole, path) == whole
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().startswith('{\n  "size": 1.0,\n  "colour": "red",')
    assert [one.name for one in tmp_path.iterdir()] == ["whole.json"]


@given(WHOLES)
def test_equal_records_have_equal_bytes(whole: Whole) -> None:
    if any(not math.isfinite(one) for one in (whole.size, *whole.shares.values(), *_numbers(whole.facts))):
        with pytest.raises(ValueError, match="Out of range float values"):
            canonical_json(whole)
        return
    mixed = replace(whole, shares=dict(reversed(whole.shares.items())))
    assert canonical_json(mixed) == canonical_json(whole)
    assert record_from_json(Whole, canonical_json(whole), "here") == whole


def _numbers(facts: Mapping[str, str | int | float | bool]) -> list[float]:
    return [fact for fact in facts.values() if isinstance(fact, float)]


def test_the_canonical_form() -> None:
    part = Part(number=2, note="é")
    assert canonical_json(part) == b'{"note":"\\u00e9","number":2}'
    assert canonical_json(part, sort_keys=False) == b'{"number":2,"note":"\\u00e9"}'


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "here is damaged: it is not valid JSON: "),
        ("[" * 100_000, "here is damaged: it is nested too deep"),
        ("[]", r"here is damaged: the whole = \[\] is not a section"),
        ('{"size": 1}', "here is damaged: colour is missing"),
        ('{"size": 1, "colour": "red", "siz": 1}', "here is damaged: unknown key siz; did you mean size"),
        ('{"size": 1, "colour": "red", "zzz": 1}', "here is damaged: unknown key zzz; known keys: size, colour"),
        ('{"size": "1", "colour": "red"}', "here is damaged: size = '1' is not a number"),
        ('{"size": true, "colour": "red"}', "here is damaged: size = True is not a number"),
        ('{"size": 1, "colour": "green"}', "here is damaged: colour = 'green'; choose one of red, blue"),
        ('{"size": 1, "colour": "red", "on": 1}', "here is damaged: on = 1 is not true or false"),
        (
            '{"size": 1, "colour": "red", "when": "now"}',
            "here is damaged: when = 'now' is not a time as ISO 8601 writes it",
        ),
        ('{"size": 1, "colour": "red", "parts": "abc"}', "here is damaged: parts = 'abc' is not a list"),
        (
            '{"size": 1, "colour": "red", "parts": [{"number": 1}, {"number": 1.5}]}',
            r"parts\[1\].number = 1.5 is not a",
        ),
        (
            '{"size": 1, "colour": "red", "parts": [{"number": -1}]}',
            r"here is damaged: \[parts\[0\]\] number = -1; needs 0",
        ),
        (
            '{"size": 1, "colour": "red", "parts": [{"number": 1, "numbr": 1}]}',
            r"here is damaged: unknown key parts\[0\].numbr; did",
        ),
        ('{"size": 1, "colour": "red", "one": 3}', "here is damaged: one = 3 is not a section"),
        (
            '{"size": 1, "colour": "red", "one": {"number": true}}',
            "here is damaged: one.number = True is not a whole number",
        ),
        (
            '{"size": 1, "colour": "red", "by_epoch": {"a": "b"}}',
            "here is damaged: by_epoch has the keys a, not all of which",
        ),
        ('{"size": 1, "colour": "red", "shares": {"a": "b"}}', r"here is damaged: shares\['a'\] = 'b' is not a number"),
        (
            '{"size": 1, "colour": "red", "facts": {"a": []}}',
            r"here is damaged: facts\['a'\] is none of the plain values",
        ),
        ('{"size": "' + 1000 * "x" + '", "colour": "red"}', "here is damaged: size = 'x{199}... is not a number"),
    ],
)
def test_what_does_not_fit_is_told_in_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as refused:
        record_from_json(Whole, text, "here")
    assert "\n" not in str(refused.value)


def test_every_bit_of_a_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record(path, Part(number=7, note="a\nb"))
    written = path.read_bytes()
    assert read_record(Part, path) == Part(number=7, note="a\nb")
    for place in range(len(written)):
        for bit in range(8):
            path.write_bytes(written[:place] + bytes([written[place] ^ 1 << bit]) + written[place + 1 :])
            with pytest.raises(DamagedError, match=r"record\.json is damaged"):
                read_record(Part, path)


@pytest.mark.parametrize(
    "change", [lambda text: text[:-1], lambda text: text + b"\n", lambda _: b"", lambda _: b"{}\n"]
)
def test_a_file_of_another_length_is_damaged(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "record.json"
    write_record(path, Part(number=7))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DamagedError) as caught:
        read_record(Part, path, fix="do this")
    assert (caught.value.code, caught.value.fix) == (ExitCode.DAMAGED, "do this")


def test_the_checksum_is_of_what_stands_before_it(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record(path, Part(number=7))
    body = b'{\n  "number": 7,\n  "note": null'
    assert path.read_bytes() == body + b',\n  "checksum": "' + hashlib.sha256(body).hexdigest().encode() + b'"\n}\n'


def test_millions_of_wrong_values_are_one_sentence() -> None:
    """An error for each would take gigabytes."""
    for text in (
        '{"size": 1, "colour": "red", "parts": [' + "1," * 100_000 + "1]}",
        '{"size": 1, "colour": "red", "by_epoch": {' + ",".join(f'"{key}": 1' for key in range(50_000)) + "}}",
    ):
        tracemalloc.start()
        with pytest.raises(ValueError, match="here is damaged") as refused:
            record_from_json(Whole, text, "here")
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert used < 50_000_000
        assert len(str(refused.value)) < 1_000
