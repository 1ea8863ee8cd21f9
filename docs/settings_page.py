"""The page of all settings, made of the dataclasses that files are read into: their fields, ranges and docstrings.

    python -m docs.settings_page

writes docs/guide/settings.md; a test holds the page to what this gives.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import itertools
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mple.data import SOURCES, DataSource
from mple.plan import ComputeSettings, CoordinatorSettings, SiteSettings
from mple.plan.reader import write_settings
from mple.ranges import OneOf, OrNumber, declared_ranges
from mple.simulate.settings import SimulationSettings

PAGE = Path(__file__).resolve().parent / "guide" / "settings.md"
FILES: Mapping[str, type] = {
    "simulation.toml": SimulationSettings,
    "coordinator.toml": CoordinatorSettings,
    "compute.toml": ComputeSettings,
    "site.toml": SiteSettings,
}
_OPENING = """\
# All settings

Every key of every configuration file, from the code that reads them (`make settings` writes this page). Only keys
without a default must be given. Paths count from the file's folder. Where a command takes `--set section.key=value`,
it replaces a single value: `--set training.epochs=5`, `--set data.partition.kind=iid`.
"""
_COMPUTED = "by machine"
_WORDS = {str: "text", int: "whole number", float: "number", bool: "`true` or `false`", Path: "path"}


def page() -> str:
    """The whole page."""
    shown: dict[tuple[str, type], str] = {}
    return "\n".join([_OPENING, *(text for name, kind in FILES.items() for text in _file(name, kind, shown))])


def _file(name: str, kind: type, shown: dict[tuple[str, type], str]) -> Iterator[str]:
    yield f"## {name}\n\n{_docstring(kind)}\n"
    yield from _tables("", kind, name, shown)


def _tables(section: str, kind: type, file: str, shown: dict[tuple[str, type], str]) -> Iterator[str]:
    """The table of a dataclass's plain fields, then those of its sections; what an earlier file has is only named."""
    values, sections = _fields(kind)
    if values:
        yield _table("key | value | default | meaning", [_row(kind, name) for name in values])
    if kind is DataSource:
        yield from _kinds_of_data(values)
    common: dict[str, list[str]] = {}
    for field, inner in sections.items():
        name = f"{section}{field}"
        if (name, inner) in shown:
            common.setdefault(shown[name, inner], []).append(f"`[{name}]`")
            continue
        shown[name, inner] = file
        about = [_docstring(inner), _docs(kind).get(field, "")]
        yield f"### `[{name}]`\n\n{' '.join(text for text in about if text)}\n"
        yield from _tables(f"{name}.", inner, file, shown)
    for other, names in common.items():
        yield f"Also {', '.join(names)}, as in {other}.\n"


def _kinds_of_data(common: list[str]) -> Iterator[str]:
    """What the kinds are, and a table of the keys that not all of them have."""
    yield "".join(f"- `{name}`: {_docstring(kind)}\n" for name, kind in SOURCES.items())
    having: dict[tuple[str, ...], list[str]] = {}
    for name, kind in SOURCES.items():
        for field in _fields(kind)[0]:
            if field not in common:
                having.setdefault(_row(kind, field), []).append(f"`{name}`")
    rows = [(row[0], ", ".join(kinds), *row[1:]) for row, kinds in having.items()]
    yield _table("key | of kind | value | default | meaning", rows)


def _table(heading: str, rows: Sequence[tuple[str, ...]]) -> str:
    lines = [f"| {heading} |", "| " + " | ".join("---" for _ in heading.split("|")) + " |"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _row(kind: type, name: str) -> tuple[str, ...]:
    hint = typing.get_type_hints(kind)[name]
    return f"`{name}`", _value(kind, name, hint), _default(kind, name), _meaning(kind, name, hint)


def _fields(kind: type) -> tuple[list[str], dict[str, type]]:
    """Plain fields, and those that are sections, with their dataclasses."""
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    sections = {name: hints[name] for name in names if dataclasses.is_dataclass(hints[name])}
    return [name for name in names if name not in sections], sections


def _value(kind: type, name: str, hint: Any) -> str:
    rule, arm = declared_ranges(kind).get(name), _arm(hint)
    if name == "kind" and issubclass(kind, DataSource):
        return _choices(SOURCES)
    if isinstance(rule, OneOf):
        return _choices(rule.values)
    if isinstance(arm, enum.EnumMeta):
        return _choices(arm)
    words = _WORDS[arm]
    if typing.get_origin(hint) is tuple:
        words = f"list of {words}s"
    if any(isinstance(one, OrNumber) for one in _extras(kind, name)):
        words = f"{words}, or their number"
    return words if rule is None else f"{words}, {'each ' if words.startswith('list') else ''}{rule}"


def _extras(kind: type, name: str) -> Sequence[object]:
    """What is annotated to a field."""
    return getattr(typing.get_type_hints(kind, include_extras=True)[name], "__metadata__", ())


def _arm(hint: Any) -> Any:
    """What is given for X, X | None and tuple[X, ...]: an X."""
    is_whole = not (isinstance(hint, types.UnionType) or typing.get_origin(hint) in (tuple, typing.Union))
    return hint if is_whole else typing.get_args(hint)[0]


def _choices(values: Any) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _default(kind: type, name: str) -> str:
    field = next(field for field in dataclasses.fields(kind) if field.name == name)
    if field.default_factory is not dataclasses.MISSING:
        return _COMPUTED
    if field.default is dataclasses.MISSING:
        return ""
    if field.default is None:
        return "left out"
    # As a file would have it.
    one = dataclasses.make_dataclass("one", [("v", type(field.default), field.default)])
    return f"`{write_settings(one()).removeprefix('v = ').strip()}`"


def _meaning(kind: type, name: str, hint: Any) -> str:
    arm = _arm(hint)
    if not isinstance(arm, enum.EnumMeta):
        return _docs(kind)[name]
    of_values = _docs(arm)
    about = [_docs(kind).get(name) or _docstring(arm)]
    values: Mapping[str, Any] = arm.__members__
    about += [f"`{one.value}`: {of_values[name]}" for name, one in values.items() if name in of_values]
    return " ".join(about)


def _docs(kind: Any) -> dict[str, str]:
    """Docstrings of a class's fields or values: the literals that follow them, inherited ones included."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not (dataclasses.is_dataclass(base) or (isinstance(base, enum.EnumMeta) and len(base))):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(typing.cast(type, base)))).body
        for before, after in itertools.pairwise(typing.cast(ast.ClassDef, definition).body):
            match before, after:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[name] = _one_line(text)
    return found


def _docstring(kind: type) -> str:
    return _one_line((inspect.getdoc(kind) or "").partition("\n\n")[0])


def _one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
