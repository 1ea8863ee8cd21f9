"""Any Python from 3.11 to 3.13: which one `make` takes, that all places name the same range, what needs no torch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ("3.11", "3.12", "3.13")
STANDIN = 'echo "$0: not the chosen version" >&2; exit 127'
"""What a version manager puts on the path for a version that is not chosen."""
WORKING = f"""\
if [ "$1" = -m ]; then
    mkdir -p "$3/bin"; echo "$0" >> "$3/made_by"
    printf '#!/bin/sh\\n' > "$3/bin/pip"; cp "$0" "$3/bin/python"; chmod +x "$3/bin/pip"
else exec {sys.executable} "$@"; fi"""
"""An interpreter of this version, whose environments install nothing."""


def made(tmp_path: Path, **pythons: str) -> subprocess.CompletedProcess[str]:
    """`make setup` of an environment in tmp_path, where the path has these interpreters first."""
    path = tmp_path / "path"
    path.mkdir(exist_ok=True)
    for name in ("python3", *(f"python{version}" for version in VERSIONS)):
        (path / name).write_text(f"#!/bin/sh\n{pythons.get(name.replace('.', '_'), STANDIN)}\n", encoding="utf-8")
        (path / name).chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHON", "MAKEFLAGS", "MAKELEVEL")}
    return subprocess.run(
        ["make", f"VENV={tmp_path / 'venv'}", "setup"],
        cwd=ROOT,
        env={**clean, "PATH": f"{path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def made_by(tmp_path: Path) -> list[str]:
    return [Path(line).name for line in (tmp_path / "venv" / "made_by").read_text(encoding="utf-8").split()]


pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


def test_a_machine_with_one_later_python_is_enough(tmp_path: Path) -> None:
    assert made(tmp_path, python3_13=WORKING).returncode == 0
    assert made_by(tmp_path) == ["python3.13"]


def test_an_unnumbered_python_is_taken_when_its_version_fits(tmp_path: Path) -> None:
    assert made(tmp_path, python3=WORKING).returncode == 0
    assert made_by(tmp_path) == ["python3"]


def test_an_environment_that_is_there_is_kept(tmp_path: Path) -> None:
    made(tmp_path, python3_13=WORKING)
    (tmp_path / "venv" / ".ready").unlink()
    assert made(tmp_path, python3_11=WORKING).returncode == 0
    assert made_by(tmp_path) == ["python3.13", "python"], "refreshed by its own Python"


@pytest.mark.parametrize("python", [STANDIN, "exit 1"], ids=["does-not-run", "other-version"])
def test_without_a_python_that_fits_it_says_what_to_do(tmp_path: Path, python: str) -> None:
    answer = made(tmp_path, python3=python)
    assert answer.returncode != 0
    assert "no Python from 3.11 to 3.13" in answer.stderr and "PYTHON=" in answer.stderr


def test_an_environment_whose_python_is_gone_is_named(tmp_path: Path) -> None:
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    answer = made(tmp_path, python3_13=WORKING)
    assert answer.returncode != 0
    assert "is gone" in answer.stderr and "make clean" in answer.stderr


def test_all_places_name_the_same_versions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == ">=3.11,<3.14"
    assert re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"])) == list(VERSIONS)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "(3, 11) <= sys.version_info[:2] <= (3, 13)" in makefile
    assert f"for version in {' '.join(VERSIONS)};" in (ROOT / ".ci" / "light").read_text(encoding="utf-8")
    assert "Python 3.11, 3.12 or 3.13" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_what_runs_on_the_other_pythons_needs_no_torch() -> None:
    """Here, where torch is, its import is blocked all the same; each folder has tests left."""
    named = re.search(r"^tests=\(tests/\{(.*)\}\)$", (ROOT / ".ci" / "light").read_text(encoding="utf-8"), re.MULTILINE)
    assert named is not None
    folders = [f"tests/{name}" for name in named[1].split(",")]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-qq", "-p", "no:cacheprovider"]
    found = subprocess.run(
        [*command, "-p", "tests.support.without_torch", *folders], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout[-3000:]
    assert not [name for name in folders if f"\n{name}/test_" not in f"\n{found.stdout}"]
