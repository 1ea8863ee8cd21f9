"""TOML files to frozen dataclasses and back: one reader for every party's configuration.

A file's tables mirror nested dataclasses; a key that no field bears is an error that names the nearest known one.
Values are read as strictly as those of records, see `mple.disk.json_records`; X | None is what may be left out.
"""

import json
import re
import tomllib
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from cattrs import Converter

from mple.data import DataSource
from mple.data.source import source_type
from mple.disk.bounded import MEBIBYTE, UnsoundFileError, read_bounded
from mple.disk.json_records import ValueFaultError, strict_converter, structured
from mple.printable import printable
from mple.ranges import OrNumber

S = TypeVar("S")
_MOST_BYTES = 4 * MEBIBYTE
_MOST_DOTS = 64
_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'')
_KEY_ENDS = re.compile(r"[=,{}\[\]\n]")
"""What stands before and after a key."""


class SettingsError(ValueError):
    """A configuration can't be read; the text names the key, the value and the way out."""


def read_settings(kind: type[S], path: Path, overrides: Sequence[str] = ()) -> S:
    """Read a TOML file into the dataclass `kind`; relative paths are taken from the file's folder.

    `overrides` are texts ``section.key=value``, applied after the file; values are TOML, or plain text.

    Raises SettingsError: as `read_toml`, or a key is unknown, a value has the wrong type or range.
    """
    return settings_from(kind, read_toml(path), overrides, base=path.parent, where=str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file says, whoever wrote it.

    Raises SettingsError: the file is missing, too large, no TOML, or nested too deep.
    """
    try:
        text = read_bounded(path, _MOST_BYTES, named=True).decode()
        deepest = max(piece.count(".") for piece in _KEY_ENDS.split(_STRING.sub("", text)))
        if deepest > _MOST_DOTS:  # its reader takes a time that grows with the square of them
            raise SettingsError(f"{path} has a key of {deepest + 1:,} parts; nobody's settings are nested so deep")
        return tomllib.loads(text)
    except FileNotFoundError:
        raise SettingsError(f"no configuration file at {path}") from None
    except OSError as fault:
        raise SettingsError(f"{path} can't be read: {fault.strerror}") from None
    except UnsoundFileError as fault:
        raise SettingsError(str(fault)) from None
    except RecursionError:
        raise SettingsError(f"{path} is nested too deep") from None
    except SettingsError:
        raise
    except ValueError as fault:  # of TOML and UTF-8, and of numbers with thousands of digits
        raise SettingsError(f"{path} is not valid TOML: {printable(fault, 300)}") from None


def settings_from(
    kind: type[S],
    raw: Mapping[str, object],
    overrides: Sequence[str] = (),
    *,
    base: Path | None = None,
    where: str = "configuration",
) -> S:
    """Build `kind` from nested mappings; see `read_settings`."""
    for text in overrides:
        raw = _overridden(raw, text)
    try:
        with _paths_from(base):
            return structured(kind, raw, where, _converter())
    except ValueError as fault:
        raise SettingsError(str(fault)) from None


def write_settings(settings: object) -> str:
    """The TOML text that `read_settings` reads back as an equal object. Fields that are None are left out."""
    lines: list[str] = []
    _write_table(_converter().unstructure(settings), "", lines)
    return "\n".join(lines).lstrip("\n") + "\n"


def with_paths_from(settings: S, folder: Path) -> S:
    """The same settings, their relative paths taken from a folder."""
    with _paths_from(folder):
        return _converter().structure(_converter().unstructure(settings), type(settings))


_base: ContextVar[Path | None] = ContextVar("mple_paths_from", default=None)
"""The folder that relative paths are taken from just now."""


@contextmanager
def _paths_from(folder: Path | None) -> Iterator[None]:
    before = _base.set(folder)
    try:
        yield
    finally:
        _base.reset(before)


@cache
def _converter() -> Converter:
    """One for all: it makes its code for each dataclass, 25 ms of them, at first use."""
    made = strict_converter()

    def path(value: object, _: object) -> Path:
        return (_base.get() or Path()) / Path(made.structure(value, str)).expanduser()

    def source(raw: object, _: object) -> DataSource:
        if not isinstance(raw, Mapping):
            raise ValueFaultError(f"= {raw!r} is not a section")
        return made.structure(raw, source_type(raw))

    def names(raw: object, kind: Any) -> Any:
        if type(raw) is not int:
            return made.structure(raw, typing.get_args(kind)[0])
        try:
            return _or_number(kind)[0].names(raw)
        except ValueError as fault:
            raise ValueFaultError(str(fault)) from None

    made.register_structure_hook(Path, path)
    made.register_structure_hook_func(lambda kind: bool(_or_number(kind)), names)
    made.register_structure_hook_func(lambda kind: kind is DataSource, source)
    made.register_unstructure_hook_func(lambda kind: kind is DataSource, lambda one: made.unstructure(one, type(one)))
    return made


def _or_number(kind: Any) -> list[OrNumber]:
    return [one for one in getattr(kind, "__metadata__", ()) if isinstance(one, OrNumber)]


def _overridden(raw: Mapping[str, object], text: str) -> Mapping[str, object]:
    path, sign, value = (part.strip() for part in text.partition("="))
    if not sign:
        raise SettingsError(f"override {text!r} has no '='; write section.key=value")
    try:
        meant = tomllib.loads(f"v = {value}")["v"]
    except (ValueError, RecursionError):
        meant = value
    return _with(raw, path.split("."), meant, text)


def _with(raw: Mapping[str, object], keys: Sequence[str], meant: object, text: str) -> Mapping[str, object]:
    key, *more = keys
    inner = raw.get(key, {})
    if not more:
        return {**raw, key: meant}
    if not isinstance(inner, Mapping):
        raise SettingsError(f"override {text!r}: {key!r} is a value, not a section")
    return {**raw, key: _with(inner, more, meant, text)}


def _write_table(table: Mapping[str, object], prefix: str, lines: list[str]) -> None:
    lines.extend(
        f"{key} = {_literal(value)}"
        for key, value in table.items()
        if value is not None and not isinstance(value, Mapping)
    )
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines.extend(["", f"[{prefix}{key}]"])
            _write_table(value, f"{prefix}{key}.", lines)


def _literal(value: object) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    # JSON writes plain values as TOML does, but for infinity and NaN; its escapes are TOML's, and `printable`'s, too.
    return repr(value) if isinstance(value, float) else printable(json.dumps(value, ensure_ascii=False))
