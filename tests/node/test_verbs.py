"""A command with several verbs: each has its own arguments, and options may stand anywhere among them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import pytest
import typer

from mple.exit_codes import ExitCode
from mple.node import Config, Overrides, node_app, run_app, run_body
from mple.node.stop import Stop


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """A node's configuration file."""

    name: str


class Heard:
    """What the bodies of the verbs were given."""

    def __init__(self) -> None:
        self.verb = ""
        self.settings: Settings | None = None
        self.words: list[str] = []
        self.loud = False

    def run(self, settings: Settings, _stop: Stop) -> None:
        self.verb, self.settings = "run", settings

    def say(self, settings: Settings, words: list[str], loud: bool) -> None:
        self.verb, self.settings, self.words, self.loud = "say", settings, words, loud
        if not self.words:
            raise ValueError("nothing to say")


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "node.toml"
    path.write_text('name = "north"\n', encoding="utf-8")
    return str(path)


@pytest.fixture
def heard() -> Heard:
    return Heard()


def call(heard: Heard, *arguments: str) -> int:
    app = node_app("mple-test", "run", partial(run_body, "mple-test", Settings, body=heard.run))

    @app.command("say")
    def say(
        config: Config,
        words: Annotated[list[str] | None, typer.Argument()] = None,
        overrides: Overrides = None,
        loud: Annotated[bool, typer.Option("--loud")] = False,
    ) -> int:
        def body(settings: Settings, _stop: Stop) -> None:
            heard.say(settings, words or [], loud)

        return run_body("mple-test", Settings, config, overrides, body)

    return run_app("mple-test", app, arguments)


def test_each_verb_has_its_body(heard: Heard, config: str) -> None:
    assert call(heard, "run", config) == 0
    assert heard.verb == "run"
    assert call(heard, "say", config, "a", "b") == 0
    assert (heard.verb, heard.words, heard.loud) == ("say", ["a", "b"], False)


@pytest.mark.parametrize("place", range(1, 5))
def test_options_may_stand_anywhere(heard: Heard, config: str, place: int) -> None:
    arguments = ["say", config, "a", "b"]
    arguments[place:place] = ["--loud", "--set", "name=south"]
    assert call(heard, *arguments) == 0
    assert (heard.words, heard.loud, heard.settings) == (["a", "b"], True, Settings(name="south"))


def test_a_fault_of_the_body_is_a_sentence(heard: Heard, config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(heard, "say", config) == ExitCode.BAD_USAGE
    assert "mple-test: nothing to say\n" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["run", "{}", "a"], ["run", "{}", "--loud"], ["sing", "{}"], ["say"], []])
def test_arguments_of_no_verb_or_of_another(
    heard: Heard, config: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(heard, *(argument.format(config) for argument in arguments)) == ExitCode.BAD_USAGE
    assert "mple-test: fix: see mple-test" in capsys.readouterr().err
    assert heard.verb == ""


def test_a_command_does_not_look_through_its_objects_as_it_ends() -> None:
    # Handlers run from the last one that was registered to the first.
    program = (
        "import atexit, gc, typer; atexit.register(lambda: print(gc.get_freeze_count() > 0)); "
        "from mple.node import run_app; app = typer.Typer(); app.command()(lambda: None); run_app('mple-test', app, [])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout == b"True\n"
