"""Frozen dataclasses as JSON and back: the one way in which records are written to files and read from them.

Reading is strict. A field of another type, an unknown one or a missing one is an error; one
sentence names the file and the first such field. Supported field types: str, int, float, bool, Path, datetime, enums
of texts, tuple[X, ...], frozenset[X], Mapping[str | int, X], X | None, unions of plain values, nested dataclasses.
"""

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from cattrs import (
    BaseValidationError,
    Converter,
    ForbiddenExtraKeysError,
    IterableValidationError,
    IterableValidationNote,
)
from cattrs.cols import is_mapping
from cattrs.gen import make_dict_structure_fn
from cattrs.strategies import configure_union_passthrough

from mple.disk.bounded import read_bounded
from mple.disk.damage import PUT_BACK, with_checksum, without_checksum
from mple.disk.whole_files import write_whole
from mple.printable import printable

R = TypeVar("R")
_WORDS: dict[object, str] = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
_MOST_SHOWN = 200
_PLAIN = str | bool | int | float | None


class ValueFaultError(ValueError):
    """A single value does not fit its field; the text goes on behind the field's name: "= 3 is not a text"."""


def record_from_json(kind: type[R], text: str | bytes, where: str) -> R:
    """Read a record, a frozen dataclass, from JSON; `where` says what the text is, a file's path.

    Raises ValueError: the text is no JSON, or no such record; one sentence that names `where` and the field.
    """
    return structured(kind, read_json(text, where), f"{where} is damaged")


def read_json(text: str | bytes, where: str) -> Any:
    """What JSON says, whoever wrote it; `where` as in `record_from_json`.

    Raises ValueError: it is no JSON, is nested too deep, or holds a number with thousands of digits; one sentence.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(f"{where} is damaged: it is nested too deep") from None
    except ValueError as fault:
        raise ValueError(f"{where} is damaged: it is not valid JSON: {printable(fault, _MOST_SHOWN)}") from None


def record_to_json(record: object, *, indent: int | None = None) -> str:
    """The JSON of a record, its fields in their order; `record_from_json` reads it back as an equal record."""
    return json.dumps(CONVERTER.unstructure(record), indent=indent)


def canonical_json(record: object, *, sort_keys: bool = True) -> bytes:
    """The JSON of a record without white space, ASCII: equal records give equal bytes, for digests and chains. Unsorted
    keys are fields in their order, and mappings in theirs."""
    raw = CONVERTER.unstructure(record)
    return json.dumps(raw, sort_keys=sort_keys, separators=(",", ":"), allow_nan=False).encode("ascii")


def read_record(kind: type[R], path: Path, fix: str = PUT_BACK) -> R:
    """Read a file that `write_record` has written; `fix` is the way out when it is damaged.

    Raises OSError: the file can't be read, or is no regular one; UnsoundFileError: it is too large; DamagedError: its
    bytes are not those that its checksum is of; ValueError: as `record_from_json`, of a file of another version of
    this program.
    """
    return record_from_json(kind, without_checksum(read_bounded(path), path, fix), str(path))


def write_record(path: Path, record: object) -> None:
    """Write a record as a whole file, a line for each field, with a checksum as its last field; it is on the disk when
    this returns."""
    write_whole(path, with_checksum(fields_in_lines(CONVERTER.unstructure(record)).rstrip(b"\n")))


def fields_in_lines(raw: Mapping[str, object]) -> bytes:
    """JSON with a line for each field."""
    # Python's own encoder, which alone indents deeper, takes ten times as long.
    fields = (f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in raw.items())
    return ("{\n" + ",\n".join(fields) + "\n}\n").encode()


def structured(kind: type[R], raw: object, where: str, converter: Converter | None = None) -> R:
    """A record from what a JSON or TOML reader has made of its text: nested mappings, lists and plain values.

    `converter` is one of `strict_converter`, that of this module by default.

    Raises ValueError: see `record_from_json`.
    """
    try:
        return (converter or CONVERTER).structure(raw, kind)
    except (BaseValidationError, ForbiddenExtraKeysError, ValueError) as fault:
        raise ValueError(f"{where}: {_sentence(fault, '')}") from None
    except (OverflowError, RecursionError) as fault:
        raise ValueError(f"{where}: {fault}") from None


def strict_converter() -> Converter:
    """A converter that takes no value for another: no "3" for 3, no text for a list, no true for 1."""
    made = Converter(forbid_extra_keys=True, unstruct_collection_overrides={frozenset: sorted})
    configure_union_passthrough(_PLAIN, made)
    made.register_structure_hook(str, _text)
    made.register_structure_hook(int, _plain)
    made.register_structure_hook(bool, _plain)
    made.register_structure_hook(float, _number)
    made.register_structure_hook(datetime, _time)
    made.register_structure_hook(Path, lambda value, _: Path(_plain(value, str)))
    made.register_unstructure_hook(datetime, datetime.isoformat)
    made.register_unstructure_hook(Path, str)
    made.register_structure_hook_factory(
        dataclasses.is_dataclass, _strict(Mapping, "a section", make_dict_structure_fn)
    )
    made.register_structure_hook_factory(_is_tuple, _strict(list | tuple, "a list", _tuple_hook))
    made.register_structure_hook_factory(is_mapping, _strict(Mapping, "a section", _mapping_hook))
    return made


def _sentence(fault: BaseException, path: str) -> str:
    """Of the first thing that is wrong; `path` leads to the record or value that it is about. An unknown key comes
    first: where one is missing as well, it may be that key, misspelt."""
    while isinstance(fault, BaseValidationError):
        fault = min(fault.exceptions, key=lambda one: not isinstance(one, ForbiddenExtraKeysError))
        for note in getattr(fault, "__notes__", ()):
            if hasattr(note, "name"):
                path = f"{path}.{note.name}" if path else note.name
            elif hasattr(note, "index"):
                path += f"[{printable(repr(note.index), _MOST_SHOWN)}]"
    if isinstance(fault, ForbiddenExtraKeysError):
        return _unknown_key(fault, f"{path}." if path else "")
    if isinstance(fault, KeyError):
        return f"{path} is missing"
    if isinstance(fault, ValueFaultError):
        return f"{path or 'the whole'} {fault}"
    if isinstance(fault, TypeError):
        return f"{path} is none of the plain values"
    return f"[{path or 'top level'}] {fault}"


def _unknown_key(fault: ForbiddenExtraKeysError, prefix: str) -> str:
    key = printable(min(fault.extra_fields), _MOST_SHOWN)
    known = list(typing.get_type_hints(fault.cl))
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"unknown key {prefix}{key}; " + (
        f"did you mean {prefix}{near[0]}?" if near else f"known keys: {', '.join(known)}"
    )


def _is_tuple(kind: Any) -> bool:
    return typing.get_origin(kind) is tuple and typing.get_args(kind)[-1] is Ellipsis


def _plain(value: object, kind: type[R]) -> R:
    if type(value) is not kind:
        raise ValueFaultError(f"= {_shown(value)} is not {_WORDS[kind]}")
    return value


def _number(value: object, _: object) -> float:
    return float(value if type(value) is int else _plain(value, float))


def _shown(value: object) -> str:
    text = repr(value)
    return printable(text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}...")


def _text(value: object, kind: type[str]) -> str:
    if not issubclass(kind, StrEnum):
        return _plain(value, kind)
    try:
        return kind(str(value))
    except ValueError:
        raise ValueFaultError(f"= {_shown(value)}; choose one of {', '.join(kind)}") from None


def _time(value: object, _: object) -> datetime:
    try:
        return datetime.fromisoformat(_plain(value, str))
    except ValueError:
        raise ValueFaultError(f"= {_shown(value)} is not a time as ISO 8601 writes it") from None


def _strict(
    expected: type | types.UnionType, words: str, factory: Callable[[Any, Converter], Callable[[Any, Any], Any]]
) -> Callable[[Any, Converter], Callable[[Any, Any], Any]]:
    """A factory of hooks as another one makes them, that take only values of the expected type."""

    def strict_factory(kind: Any, converter: Converter) -> Callable[[Any, Any], Any]:
        inner = factory(kind, converter)

        def structure(value: object, _: object) -> object:
            if not isinstance(value, expected):
                raise ValueFaultError(f"= {_shown(value)} is not {words}")
            return inner(value, kind)

        return structure

    return strict_factory


def _tuple_hook(kind: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    of = typing.get_args(kind)[0]
    read = converter.get_structure_hook(of)

    def structure(value: Sequence[object], _: object) -> tuple[object, ...]:
        if of in (int, float) and set(map(type, value)) <= {of}:
            return tuple(value)  # as one by one, but of the hundreds of thousands of counts that a tally has
        return tuple(_element(read, one, of, index) for index, one in enumerate(value))

    return structure


def _mapping_hook(kind: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    """JSON has texts for keys; where the field has whole numbers, they are read as such."""
    key_type, of = typing.get_args(kind)
    read = converter.get_structure_hook(of)

    def structure(value: Mapping[str, object], _: object) -> object:
        if key_type is int and not all(key.isdecimal() for key in value):
            keys = printable(", ".join(value), _MOST_SHOWN)
            raise ValueFaultError(f"has the keys {keys}, not all of which are whole numbers")
        return {key_type(key): _element(read, one, of, key) for key, one in value.items()}

    return structure


def _element(read: Callable[[Any, Any], Any], value: object, of: Any, index: int | str) -> Any:
    """One of a list or a section. The first that is wrong ends the reading: whoever wrote the file may have written
    millions of them."""
    try:
        return read(value, of)
    except Exception as fault:
        fault.add_note(IterableValidationNote("", index, of))
        raise IterableValidationError("", [fault], of) from None


CONVERTER = strict_converter()
