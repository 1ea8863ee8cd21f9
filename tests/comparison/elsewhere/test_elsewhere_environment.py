"""Environments of other systems: made once, or a typed reason why not. Real venv and pip, no network."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from comparison.elsewhere.environment import Requirements, ensure_environment, interpreter, reason_in
from comparison.elsewhere.unavailable import Reason, Unavailable

GREETING = Requirements(name="greeting", steps=(("mple-greeting==1.2",),))


def write_wheel(folder: Path) -> None:
    """A wheel of one module, as pip wants it."""
    files = {
        "mple_greeting.py": "WORD = 'hello'\n",
        "mple_greeting-1.2.dist-info/METADATA": "Metadata-Version: 2.1\nName: mple-greeting\nVersion: 1.2\n",
        "mple_greeting-1.2.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip('=')},"
        f"{len(text)}\n"
        for name, text in files.items()
    )
    with zipfile.ZipFile(folder / "mple_greeting-1.2-py3-none-any.whl", "w") as wheel:
        for name, text in {**files, "mple_greeting-1.2.dist-info/RECORD": record}.items():
            wheel.writestr(name, text)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Pip sees one folder of wheels only."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return wheels


def test_what_was_not_made_to_the_end_is_made_anew_and_then_taken_from_the_cache(offline: Path, tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as fault:
        ensure_environment(GREETING, tmp_path / "cache")
    assert fault.value.reason is Reason.NO_WHEEL and "mple-greeting" in fault.value.detail
    write_wheel(offline)
    made = ensure_environment(GREETING, tmp_path / "cache")
    (offline / "mple_greeting-1.2-py3-none-any.whl").unlink()
    again = ensure_environment(GREETING, tmp_path / "cache")
    assert again == made and "mple-greeting==1.2" in made.packages
    command = [str(made.python), "-c", "import mple_greeting; print(mple_greeting.WORD)"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "hello\n"


def test_no_network_is_told_from_no_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    with pytest.raises(Unavailable) as fault:
        ensure_environment(GREETING, tmp_path)
    assert fault.value.reason is Reason.NO_NETWORK


def test_a_python_that_is_not_there_is_named() -> None:
    with pytest.raises(Unavailable, match=r"python3\.99") as fault:
        interpreter((3, 99))
    assert fault.value.reason is Reason.WRONG_PYTHON


def test_a_python_that_does_not_run_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version manager's stand-in for a version that is not chosen."""
    (tmp_path / "python3.99").write_text("#!/bin/sh\nexit 127\n", encoding="utf-8")
    (tmp_path / "python3.99").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(Unavailable) as fault:
        interpreter((3, 99))
    assert fault.value.reason is Reason.WRONG_PYTHON


def test_pip_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as fault:
        ensure_environment(GREETING, tmp_path, patience_s=0.01)
    assert fault.value.reason is Reason.TIME


@pytest.mark.parametrize(
    ("printed", "reason"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", Reason.NO_SPACE),
        (
            "WARNING: Retrying ... NameResolutionError: [Errno -3] Temporary failure in name resolution\n"
            "ERROR: No matching distribution found for spu==0.9.5",
            Reason.NO_NETWORK,
        ),
        ("ERROR: ResolutionImpossible: for help visit ...", Reason.CONFLICT),
        (
            "ERROR: Ignored the following versions that require a different python version: 0.9.5 Requires-Python "
            ">=3.10\nERROR: No matching distribution found for spu==0.9.5",
            Reason.WRONG_PYTHON,
        ),
        ("ERROR: No matching distribution found for spu==0.9.5", Reason.NO_WHEEL),
        ("Segmentation fault", Reason.INSTALL_FAILED),
    ],
)
def test_reasons_in_what_pip_prints(printed: str, reason: Reason) -> None:
    assert reason_in(printed) is reason


def test_other_requirements_have_another_folder() -> None:
    other = Requirements(name="greeting", steps=(("mple-greeting==1.3",),))
    assert GREETING.folder != other.folder
    assert GREETING.folder == Requirements(name="greeting", steps=(("mple-greeting==1.2",),)).folder


@pytest.mark.parametrize(
    "wrong", [{"name": "../up", "steps": (("a==1",),)}, {"name": "a", "steps": ()}, {"name": "a", "steps": (("a",),)}]
)
def test_unpinned_packages_and_odd_names_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"name = |steps = "):
        Requirements(**wrong)  # type: ignore[arg-type]
