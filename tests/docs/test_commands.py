"""Every command that a page shows can be typed, with these options; and every command stands in a page."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from compute_node.command import main as compute
from coordinator.node import main as coordinator
from mple.cli.app import app
from provider_node.node import main as provider

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
NODES: dict[str, Callable[[Sequence[str]], int]] = {
    "mple-coordinator": coordinator,
    "mple-compute": compute,
    "mple-provider": provider,
}
TYPED = re.compile(r"(?:\$ +|`|^)(?:\.venv/bin/)?(mple(?:-\w+)? [^`\n|]*)", re.MULTILINE)


def typed(page: Path) -> Iterator[list[str]]:
    """Commands that a page shows, without comments."""
    for command in TYPED.findall(page.read_text(encoding="utf-8")):
        words = shlex.split(command, comments=True)
        if re.fullmatch(r"[a-z]+|\[.*|--[a-z-]+", words[1]) and words[1] != "is":
            yield words


def fault_of(words: list[str]) -> str | None:
    """What is wrong with a command of `mple`, if anything."""
    command, rest = get_command(app), words[1:]
    while isinstance(command, TyperGroup) and rest and rest[0] in command.commands:
        command, rest = command.commands[rest[0]], rest[1:]
    if isinstance(command, TyperGroup) and rest and not rest[0].startswith("-"):
        return f"{shlex.join(words)}: no command {rest[0]}"
    options = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"--help"}
    if command.name == "bench":  # hands on what follows
        return None
    asked = {word.strip("[]").partition("=")[0] for word in rest if word.strip("[]").startswith("--")}
    return f"{shlex.join(words)}: no option {', '.join(sorted(asked - options))}" if asked - options else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_shows_can_be_typed(page: Path) -> None:
    assert not [fault for words in typed(page) if words[0] == "mple" and (fault := fault_of(words))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_shows_of_a_node_can_be_typed(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in typed(page):
        if words[0] != "mple":
            assert NODES[words[0]]([words[1], "--help"]) == 0, words
            options = {word for word in words if word.startswith("--")}
            assert not [option for option in options if option not in capsys.readouterr().out], words


@cache
def leaves(group: TyperGroup, name: str) -> tuple[str, ...]:
    """All commands below a group, as one types them."""
    found: list[str] = []
    for part, command in group.commands.items():
        below = f"{name} {part}"
        found += leaves(command, below) if isinstance(command, TyperGroup) else [below]
    return tuple(found)


def test_every_command_stands_in_a_page() -> None:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    pages = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert not [command for command in leaves(group, "mple") if not re.search(rf"\b{command}\b", pages)]
