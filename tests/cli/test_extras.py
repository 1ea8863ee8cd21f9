"""Commands that need more than a hospital's installation name the extra, before they have read or written anything."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from compute_node.command import main as compute
from mple.cli import main
from mple.exit_codes import ExitCode
from mple.extras import missing_extra

ROOT = Path(__file__).resolve().parents[2]
WAY_OUT = "which is not installed; run: {} -m pip install 'mple[{}]'\n"


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["simulate", "--out", "run"], "compute"),
        (["simulate", "--repeat", "absent", "--out", "run"], "compute"),
        (["plain", "--out", "run"], "compute"),
        (["attack", "--list"], "attack"),
        (["attack", "--run", "absent"], "attack"),
        (["compare", "--network", "small", "--out", "run"], "compare"),
        (["bench", "wire"], "dev"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else one,
)
def test_without_torch_a_command_names_its_extra(
    arguments: list[str],
    extra: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == ExitCode.BAD_USAGE
    said = f"mple: mple {arguments[0]} needs torch, {WAY_OUT.format(sys.executable, extra)}"
    assert capsys.readouterr().err == said
    assert not list(tmp_path.iterdir())


def test_without_torch_the_compute_node_names_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "compute.toml").write_text(
        'listen = "127.0.0.1:0"\nstate = "state"\ntls = "tls"\ncoordinator = "127.0.0.1:1"\n'
    )
    assert compute(["serve", str(tmp_path / "compute.toml")]) == ExitCode.BAD_USAGE
    said = f"mple-compute: mple-compute needs torch, {WAY_OUT.format(sys.executable, 'compute')}"
    assert capsys.readouterr().err == said
    assert [one.name for one in tmp_path.iterdir()] == ["compute.toml"]


def test_every_extra_that_is_named_is_declared() -> None:
    named = set()
    for folder in ("mple", "compute_node", "provider_node", "coordinator", "comparison"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            named |= set(re.findall(r'missing_extra\([^()]+, "(\w+)"\)', text))
            named |= set(re.findall(r'require_extra\("[^"]+", "(\w+)"', text)) | set(re.findall(r"mple\[(\w+)\]", text))
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert {"attack", "compare", "compute", "dicom", "dicomweb", "parquet", "dev"} <= named <= set(declared)


def test_a_hospital_installs_no_torch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    base = {re.split(r"[<>=]", one)[0] for one in project["dependencies"]}
    assert not base & {"torch", "tensorboardX", "matplotlib", "seal-python", "pydicom", "pyarrow"}


def test_pip_takes_the_extra_from_what_is_installed(tmp_path: Path) -> None:
    """The command that is named finds mple with its extra without an index and outside a checkout."""
    command = missing_extra("this", "that", "dicom").partition("run: ")[2].replace("'", "").split()
    ended = subprocess.run(
        [*command, "--dry-run", "--no-index", "--no-deps", "--disable-pip-version-check"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert "Requirement already satisfied: mple[dicom] in " in ended.stdout, ended.stderr
