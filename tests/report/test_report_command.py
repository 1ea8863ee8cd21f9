"""`mple report` and `mple export` as they are typed, on a run of real processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mple.exit_codes import ExitCode
from tests.support.finished_run import finished_run
from tests.support.modes import open_to_others, unmasked
from tests.support.typed_command import Said, small_simulation


def test_a_simulation_leaves_its_page_and_all_for_its_owner_alone(
    mple: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the modes that our code names: under umask 000, which no process may change here."""
    small_simulation(tmp_path, images=48)
    out = tmp_path / "new" / "run"
    with unmasked(tmp_path / "customs", monkeypatch):
        code, text, _ = mple("simulate", tmp_path / "small.toml", "--out", out, "--plain")
        assert mple("export", out, "--csv", tmp_path / "new" / "ledger.csv")[0] == ExitCode.DONE
    assert open_to_others(tmp_path / "new") == []
    assert len(list(out.rglob("*.safetensors"))) >= 6, "layers at both ends, the model, checkpoints"
    assert code == ExitCode.DONE
    assert f"the page is {out / 'report.html'}" in text
    page = (out / "report.html").read_text(encoding="utf-8")
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert f"test accuracy {summary['test_accuracy']:.4f}, lowest sensitivity" in page
    assert f'command</th><td class="wide hash" data-heading="of the run">{summary["command"].split()[0]}' in page
    assert summary["model_sha256"] in page
    assert "data:image" not in page, "no site has said that its pictures may be shown"
    assert list(out.glob("nodes/*/state/pictures-*")) == []


def test_one_run(mple: Said, tmp_path: Path) -> None:
    finished_run(tmp_path / "run")
    code, text, _ = mple("report", tmp_path / "run", "--no-pictures")
    assert code == ExitCode.DONE
    assert "overhead against raw pixels" in text
    assert f"the page is {tmp_path / 'run' / 'report.html'}" in text
    assert "data:image" not in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_two_runs(mple: Said, tmp_path: Path) -> None:
    finished_run(tmp_path / "one")
    finished_run(tmp_path / "two", accuracy=0.8)
    code, text, _ = mple("report", tmp_path / "one", tmp_path / "two")
    assert code == ExitCode.DONE
    assert "two against one: 0.00" in text
    assert not list(tmp_path.glob("**/*.html"))
    code, text, _ = mple("report", tmp_path / "one", tmp_path / "two", "--out", tmp_path / "both.html")
    assert code == ExitCode.DONE
    assert "two against one" in (tmp_path / "both.html").read_text(encoding="utf-8")


def test_a_ledger_that_is_gone_or_of_another_kind_gets_a_sentence(mple: Said, tmp_path: Path) -> None:
    finished_run(tmp_path / "run")
    ledger = tmp_path / "run" / "ledger.sqlite"
    ledger.write_bytes(b"no data base, but as long as the first page of one" * 100)
    code, _, complaints = mple("report", tmp_path / "run")
    assert code == ExitCode.BAD_USAGE
    assert "can't be read" in complaints
    ledger.unlink()
    code, _, complaints = mple("report", tmp_path / "run")
    assert code == ExitCode.BAD_USAGE
    assert f"{ledger} is missing" in complaints
    assert not ledger.exists()


def test_export(mple: Said, tmp_path: Path) -> None:
    finished_run(tmp_path / "run")
    csv, parquet = tmp_path / "ledger.csv", tmp_path / "ledger.parquet"
    code, text, _ = mple("export", tmp_path / "run", "--csv", csv, "--parquet", parquet)
    assert (code, text) == (ExitCode.DONE, f"32 rows in {csv} and {parquet}\n")
    assert csv.read_text(encoding="utf-8").startswith("time_unix_ns,node,")
    assert parquet.read_bytes().startswith(b"PAR1")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report", "nowhere"], "nowhere"),
        (["report", "nowhere", "--out", "page.txt"], ".html"),
        (["export", "nowhere"], "--csv FILE"),
        (["export", "nowhere", "--csv", "a.csv"], "nowhere"),
    ],
)
def test_mistakes_get_a_sentence(mple: Said, arguments: list[str], words: str) -> None:
    code, said, complaints = mple(*arguments)
    assert (code, said) == (ExitCode.BAD_USAGE, "")
    assert words in complaints
    assert len(complaints.splitlines()) == 1
