"""`mple bench`: names what there is, hands on what follows a name, and says so where there is no checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

import mple
from mple.cli import main
from mple.cli.bench import benchmarks_in
from mple.exit_codes import ExitCode


def test_every_command_is_named_and_nothing_that_they_share(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench"]) == ExitCode.DONE
    names = capsys.readouterr().out.split()
    assert {"layers", "wire", "system", "growth"} <= set(names)
    assert not {"whole_runs", "process_watch", "pictures", "__init__"} & set(names)


def test_an_unknown_name_is_answered_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "wires"]) == ExitCode.BAD_USAGE
    said = capsys.readouterr().err
    assert "wires" in said and "growth" in said


def test_what_follows_the_name_and_its_code_are_the_benchmarks_own(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "growth", "depth", "--quick"]) == 2  # argparse's own code
    assert "no series depth" in capfd.readouterr().err


def test_without_a_checkout_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mple, "__file__", str(tmp_path / "site-packages" / "mple" / "__init__.py"))
    assert main(["bench", "wire"]) == ExitCode.BAD_USAGE
    assert "run from a checkout" in capsys.readouterr().err
    assert benchmarks_in(tmp_path / "nowhere") == ()
