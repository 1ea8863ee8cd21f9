"""Verbs that other packages add to `mple`, by the entry point group `mple.commands`; mple imports none of them by name.

They are loaded as `mple` starts, since its help lists them, so their modules must import little. One that can't be
loaded ends with a sentence when it is called; everything else works.
"""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated

import typer

GROUP = "mple.commands"


def add_plugins(app: typer.Typer) -> None:
    """Add the verbs of all installed packages, in the order of their names."""
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            app.command(entry.name)(entry.load())
        except Exception as fault:  # whatever another package's import raises
            anything = {"allow_extra_args": True, "ignore_unknown_options": True}
            app.command(entry.name, context_settings=anything)(_broken(entry, fault))


def _broken(entry: EntryPoint, fault: Exception) -> Callable[..., None]:
    def broken(_arguments: Annotated[list[str] | None, typer.Argument(hidden=True)] = None) -> None:
        raise ValueError(f"{entry.name} can't be loaded from {entry.value}: {type(fault).__name__}: {fault}")

    broken.__doc__ = f"Can't be loaded: {fault}"
    return broken
