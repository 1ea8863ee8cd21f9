"""TOML files to frozen dataclasses and back: one reader for every party's configuration.

A file's tables mirror nested dataclasses; a key that no field bears is an error that names the nearest known one.
Supported field types: str, int, float, bool, Path, StrEnum, tuple[X, ...], X | None and nested dataclasses.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

S = TypeVar("S")


class SettingsError(ValueError):
    """A configuration can't be read; the text names the key, the value and the way out."""


def read_settings(kind: type[S], path: Path, overrides: Sequence[str] = ()) -> S:
    """Read a TOML file into the dataclass `kind`; relative paths are taken from the file's folder.

    Args:
        kind: A frozen dataclass whose fields mirror the file.
        path: The file.
        overrides: Texts ``section.key=value``, applied after the file; values are TOML, or plain text.

    Raises:
        SettingsError: The file is missing or no TOML, a key is unknown, a value has the wrong type or range.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"no configuration file at {path}") from None
    except OSError as fault:
        raise SettingsError(f"{path} can't be read: {fault.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise SettingsError(f"{path} is not valid TOML: {fault}") from None
    return settings_from(kind, raw, overrides, base=path.parent, where=str(path))


def settings_from(
    kind: type[S],
    raw: Mapping[str, object],
    overrides: Sequence[str] = (),
    *,
    base: Path | None = None,
    where: str = "configuration",
) -> S:
    """Build `kind` from nested mappings; see `read_settings`."""
    merged: dict[str, object] = _copied(raw)
    for text in overrides:
        _override(merged, text)
    return _build(kind, merged, where, "", base)


def write_settings(settings: object) -> str:
    """The TOML text that `read_settings` reads back as an equal object. Fields that are None are left out."""
    lines: list[str] = []
    _write_table(settings, "", lines)
    return "\n".join(lines).lstrip("\n") + "\n"


def _copied(raw: Mapping[str, object]) -> dict[str, object]:
    return {key: _copied(value) if isinstance(value, Mapping) else value for key, value in raw.items()}


def _override(raw: dict[str, object], text: str) -> None:
    path, sign, value = (part.strip() for part in text.partition("="))
    if not sign:
        raise SettingsError(f"override {text!r} has no '='; write section.key=value")
    *tables, key = path.split(".")
    for name in tables:
        inner = raw.setdefault(name, {})
        if not isinstance(inner, dict):
            raise SettingsError(f"override {text!r}: {name!r} is a value, not a section")
        raw = inner
    try:
        raw[key] = tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        raw[key] = value


def _build(kind: type[S], raw: Mapping[str, object], where: str, prefix: str, base: Path | None) -> S:
    if not dataclasses.is_dataclass(kind):
        raise TypeError(f"{kind} is not a dataclass")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key in raw:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
            hint = f"did you mean {prefix}{near[0]!s}?" if near else f"known keys: {', '.join(fields)}"
            raise SettingsError(f"{where}: unknown key {prefix}{key}; {hint}")
    values = {}
    for name, field in fields.items():
        if name in raw:
            values[name] = _convert(hints[name], raw[name], where, prefix + name, base)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            if not dataclasses.is_dataclass(hints[name]):
                raise SettingsError(f"{where}: {prefix}{name} is missing")
            values[name] = _build(typing.cast(type, hints[name]), {}, where, f"{prefix}{name}.", base)
    try:
        return kind(**values)
    except SettingsError:
        raise
    except ValueError as fault:
        raise SettingsError(f"{where}: [{prefix.rstrip('.') or 'top level'}] {fault}") from None


def _convert(hint: object, value: object, where: str, name: str, base: Path | None) -> object:
    wrong = SettingsError(f"{where}: {name} = {value!r} is not {_named(hint)}")
    if isinstance(hint, types.UnionType):
        inner = [arm for arm in typing.get_args(hint) if arm is not type(None)]
        return None if value is None else _convert(inner[0], value, where, name, base)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise wrong
        element = typing.get_args(hint)[0]
        return tuple(_convert(element, item, where, f"{name}[{i}]", base) for i, item in enumerate(value))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise SettingsError(f"{where}: {name} = {value!r} must be a section [{name}]")
        return _build(hint, value, where, f"{name}.", base)
    if not isinstance(hint, type):
        raise TypeError(f"{name}: fields of type {hint} are not supported")
    if issubclass(hint, StrEnum):
        try:
            return hint(str(value))
        except ValueError:
            raise SettingsError(f"{where}: {name} = {value!r}; choose one of {', '.join(hint)}") from None
    if hint is Path and isinstance(value, str):
        path = Path(value).expanduser()
        return path if path.is_absolute() or base is None else base / path
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, bool):
        raise wrong
    if not isinstance(value, hint):
        raise wrong
    return value


def _named(hint: object) -> str:
    if typing.get_origin(hint) is tuple:
        return f"a list of {_named(typing.get_args(hint)[0])}"
    names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}
    return names.get(typing.cast(type, hint), str(hint))


def _write_table(settings: object, prefix: str, lines: list[str]) -> None:
    tables: list[tuple[str, object]] = []
    for field in dataclasses.fields(typing.cast(typing.Any, settings)):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            tables.append((field.name, value))
        elif value is not None:
            lines.append(f"{field.name} = {_literal(value)}")
    for name, table in tables:
        lines.extend(["", f"[{prefix}{name}]"])
        _write_table(table, f"{prefix}{name}.", lines)


def _literal(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    if isinstance(value, int | float):
        return repr(value)
    # JSON's escapes are TOML's too, except that TOML wants DEL escaped.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
