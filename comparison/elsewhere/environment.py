"""Virtual environments for systems whose dependencies do not go with ours: made once, or a reason why not.

A system that can't be installed is no error of a comparison: its row is left out and says why.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from comparison.elsewhere.unavailable import Reason, Unavailable
from mple.disk.locks import locked
from mple.disk.whole_files import write_whole

_READY = "installed.json"
_TOLD_CHARACTERS = 600
_SIGNS = (
    (Reason.NO_SPACE, ("No space left on device", "Disk quota exceeded")),
    (
        Reason.NO_NETWORK,
        (
            "Failed to establish a new connection",
            "Temporary failure in name resolution",
            "Name or service not known",
            "Network is unreachable",
            "ConnectTimeoutError",
            "ReadTimeoutError",
            "ProxyError",
            "Connection refused",
        ),
    ),
    (Reason.CONFLICT, ("ResolutionImpossible", "conflicting dependencies")),
    (Reason.WRONG_PYTHON, ("requires a different Python", "Requires-Python", "require a different python version")),
    (Reason.NO_WHEEL, ("No matching distribution found", "is not a supported wheel", "Failed to build")),
)
"""What pip prints, in the order in which it is looked for: without a network pip also finds no distribution."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Requirements:
    """What is to be in an environment."""

    name: str
    """Of the environment; part of its folder's name."""
    steps: tuple[tuple[str, ...], ...]
    """Pinned packages, each tuple one call of pip, one after the other. What others would pull in at a larger size is
    pinned first."""
    python: tuple[int, int] = (3, 11)
    """Version of the interpreter."""

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"name = {self.name!r}; needs letters, digits and _ only")
        loose = [package for step in self.steps for package in step if "==" not in package and "<" not in package]
        if not self.steps or loose:
            raise ValueError(f"steps = {self.steps}; needs a package at least, each pinned with == or bounded with <")

    @property
    def folder(self) -> str:
        """Name of the environment's folder: another one for other requirements."""
        about = json.dumps([self.steps, self.python]).encode()
        return f"{self.name}-{hashlib.sha256(about).hexdigest()[:12]}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """An environment that is there."""

    python: Path
    """Its interpreter."""
    packages: tuple[str, ...]
    """All that is installed, `name==version`."""


def ensure_environment(wanted: Requirements, cache: Path | None = None, *, patience_s: float = 1800.0) -> Environment:
    """The environment from the cache; made first where it is not there yet, which takes minutes and a network.

    Args:
        wanted: What is to be in it.
        cache: Folder for environments; by default `default_cache()`.
        patience_s: Most seconds for one call of pip.

    Guarantees: one that is returned was installed to the end; of several processes that want the same one, one makes it
    and the others wait; an unfinished one is made anew.

    Raises Unavailable: it can't be made; the reason is one of `Reason`.
    """
    cache = cache or default_cache()
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / wanted.folder
    lock = cache / f"{wanted.folder}.lock"
    lock.touch()
    with locked(lock):
        if not (folder / _READY).exists():
            _make(wanted, folder, patience_s)
        packages = json.loads((folder / _READY).read_text(encoding="utf-8"))
    return Environment(python=folder / "bin" / "python", packages=tuple(packages))


def default_cache() -> Path:
    """Where environments are kept: `MPLE_ENVIRONMENTS`, or `.cache/mple/environments` in the home folder."""
    chosen = os.environ.get("MPLE_ENVIRONMENTS")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "mple" / "environments"


def reason_in(printed: str) -> Reason:
    """Why pip failed, from what it printed."""
    for reason, signs in _SIGNS:
        if any(sign in printed for sign in signs):
            return reason
    return Reason.INSTALL_FAILED


def interpreter(version: tuple[int, int]) -> Path:
    """A Python of this version. Raises Unavailable: there is none on this machine."""
    if sys.version_info[:2] == version:
        return Path(sys.executable)
    name = "python{}.{}".format(*version)
    found = shutil.which(name)
    # A version manager has every version on the path, and of those that are not chosen a program that fails.
    if found is None or subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode:  # noqa: S603
        raise Unavailable(Reason.WRONG_PYTHON, f"it needs {name}, which is not on the path or does not run")
    return Path(found)


def _make(wanted: Requirements, folder: Path, patience_s: float) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    _called([str(interpreter(wanted.python)), "-m", "venv", str(folder)], patience_s)
    python = str(folder / "bin" / "python")
    # Of a network that is not there pip says no word but when it tries again.
    plainly = ["--disable-pip-version-check", "--no-input", "--no-color", "--quiet", "--retries=2"]
    for step in wanted.steps:
        _called([python, "-m", "pip", "install", "--only-binary=:all:", *plainly, *step], patience_s)
    listed = _called([python, "-m", "pip", "--disable-pip-version-check", "freeze"], patience_s)
    write_whole(folder / _READY, json.dumps(sorted(listed.split())).encode())


def _called(command: list[str], patience_s: float) -> str:
    try:
        ended = subprocess.run(  # noqa: S603
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=patience_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(Reason.TIME, f"{' '.join(command)} took more than {patience_s:.0f} s") from None
    if ended.returncode:
        printed = ended.stderr + ended.stdout
        errors = [line for line in printed.splitlines() if line.startswith("ERROR")]
        raise Unavailable(reason_in(printed), "\n".join(errors or [printed])[-_TOLD_CHARACTERS:])
    return ended.stdout
