"""Verbs of other packages: found by their entry points, harmless to `mple` where they or what they need is missing."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mple.cli import plugins
from mple.exit_codes import ExitCode

WITHOUT_SEAL = """
import sys
sys.modules["seal"] = None
from mple.cli import main
sys.exit(main(sys.argv[1:]))
"""


def without_seal(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_SEAL, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def test_without_the_lattice_library_compare_names_the_way_out(tmp_path: Path) -> None:
    ended = without_seal(tmp_path, "compare", "--network", "small", "--out", "out")
    assert ended.returncode == ExitCode.BAD_USAGE
    way_out = f"{sys.executable} -m pip install 'mple[compare]'"
    assert ended.stderr == f"mple: mple compare needs seal, which is not installed; run: {way_out}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--help"], ["compare", "--help"], ["pki", "--help"]], ids=" ".join)
def test_without_the_lattice_library_all_else_works(arguments: list[str], tmp_path: Path) -> None:
    ended = without_seal(tmp_path, *arguments)
    assert (ended.returncode, ended.stderr) == (ExitCode.DONE, "")


def test_a_plugin_that_cant_be_loaded_harms_itself_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "added_verb.py").write_text("def greet(name: str) -> None:\n    print(f'hello {name}')\n")
    (tmp_path / "torn_verb.py").write_text("raise RuntimeError('torn')\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = [
        EntryPoint("torn", "torn_verb:verb", plugins.GROUP),
        EntryPoint("gone", "no_such_package:verb", plugins.GROUP),
        EntryPoint("greet", "added_verb:greet", plugins.GROUP),
        EntryPoint("unnamed", "added_verb:no_such_verb", plugins.GROUP),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: found)
    app = typer.Typer()
    plugins.add_plugins(app)
    runner = CliRunner()
    assert runner.invoke(app, ["greet", "north"]).output == "hello north\n"
    assert "greet" in runner.invoke(app, ["--help"]).output
    for verb, words in (
        ("torn", "torn can't be loaded from torn_verb:verb: RuntimeError: torn"),
        ("gone", "gone can't be loaded from no_such_package:verb: ModuleNotFoundError: "),
        ("unnamed", "unnamed can't be loaded from added_verb:no_such_verb: AttributeError: "),
    ):
        ended = runner.invoke(app, [verb, "--any", "option"])
        assert isinstance(ended.exception, ValueError)
        assert str(ended.exception).startswith(words)


def test_compare_is_found_by_its_entry_point() -> None:
    assert {entry.name: entry.value for entry in plugins.entry_points(group=plugins.GROUP)} == {
        "compare": "comparison.command:compare_methods"
    }
