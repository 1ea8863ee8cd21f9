"""A program of another environment as a child process that goes on step by step, so that what lies between can be read.

The child writes one JSON object a line on its standard output at the end of each step and waits for a line on its
standard input. Meanwhile nothing of it moves: counters read then belong to the steps before. What its libraries print
goes to a file.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import comparison
import mple
from comparison.elsewhere.unavailable import Reason, Unavailable
from mple.simulate.children import tied

_LOOK_S = 0.5
_GRACE_S = 20.0
_TOLD_CHARACTERS = 600
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Said:
    """What a child said at the end of a step."""

    def __init__(self, name: str, values: Mapping[str, object]) -> None:
        self._name, self._values = name, values

    def real(self, key: str) -> float:
        """A number. Raises Unavailable: there is none of this name."""
        return _real(self._name, key, self._values.get(key))

    def reals(self, key: str) -> tuple[float, ...]:
        """A list of numbers. Raises Unavailable: there is none of this name."""
        values = self._values.get(key)
        if not isinstance(values, list):
            raise Unavailable(Reason.RUN_FAILED, f"{self._name} said {key} = {values!r}; needs a list of numbers")
        return tuple(_real(self._name, key, value) for value in values)


class SteppedChildren:
    """Children with limits on time and memory for all of them together; a context manager that leaves none behind."""

    def __init__(self, folder: Path, *, time_limit_s: float, memory_limit_bytes: int, threads: int) -> None:
        """Set the limits; no child is started yet.

        Args:
            folder: For a log of each child, NAME.log.
            time_limit_s: From now on.
            memory_limit_bytes: Of resident memory.
            threads: Of each child's numeric libraries.
        """
        self._folder = folder
        self._over_at = time.monotonic() + time_limit_s
        self._time_limit_s, self._memory_limit_bytes, self._threads = time_limit_s, memory_limit_bytes, threads
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._unread: dict[str, bytes] = {}

    def __enter__(self) -> SteppedChildren:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _fault: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for child in self._children.values():
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            for end in (child.stdin, child.stdout):
                if end is not None:
                    end.close()

    def start_module(
        self, name: str, python: Path, module: str, *arguments: object, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start a module of ours as a child in another environment, whose other packages it then has. It finds
        `comparison` and `mple` in a folder of their own: nothing of what is installed beside them here."""
        packages = self._folder / "packages"
        packages.mkdir(exist_ok=True)
        for package in (comparison, mple):
            link, target = packages / package.__name__, Path(str(package.__file__)).resolve().parent
            if not link.is_symlink():
                link.symlink_to(target, target_is_directory=True)
        command = [str(python), "-P", "-m", module, *map(str, arguments)]
        self.start(name, command, {"PYTHONPATH": str(packages), **(environment or {})})

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start a child in a process group of its own."""
        with self.log(name).open("wb") as log:
            self._children[name] = subprocess.Popen(  # noqa: S603
                tied(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": str(self._threads), **(environment or {})},
            )
        self._unread[name] = b""

    def log(self, name: str) -> Path:
        """The file with what a child's libraries print."""
        return self._folder / f"{name}.log"

    def step_ends(self, names: Sequence[str] = ()) -> dict[str, Said]:
        """Wait until these children, by default all, have ended a step; what they said, by child.

        Raises Unavailable: a child has ended or said no JSON object, or a limit is passed.
        """
        waited = list(names or self._children)
        said: dict[str, Said] = {}
        with selectors.DefaultSelector() as ready:
            for name in waited:
                line = self._line(name)
                if line is not None:
                    said[name] = _said(name, line)
            for name in waited:
                out = self._children[name].stdout
                if out is not None:
                    ready.register(out, selectors.EVENT_READ, name)
            while len(said) < len(waited):
                self._check()
                for key, _ in ready.select(_LOOK_S):
                    self._take(str(key.data), key.fd)
                    line = None if key.data in said else self._line(str(key.data))
                    if line is not None:
                        said[str(key.data)] = _said(str(key.data), line)
        return said

    def go_on(self, names: Sequence[str] = ()) -> None:
        """Let these children, by default all, take their next step. Raises Unavailable: a child has ended."""
        for name in names or list(self._children):
            to_child = self._children[name].stdin
            try:
                if to_child is not None:
                    to_child.write(b"\n")
            except BrokenPipeError:
                raise self._ended(name) from None

    def end(self) -> None:
        """Wait until all children have ended by themselves, for some seconds at most."""
        for name, child in self._children.items():
            try:
                child.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                continue  # its work is done and read; __exit__ puts an end to it
            if child.returncode:
                raise self._ended(name)

    def _take(self, name: str, fd: int) -> None:
        piece = os.read(fd, 1 << 16)
        if not piece:
            raise self._ended(name)
        self._unread[name] += piece

    def _line(self, name: str) -> bytes | None:
        line, end, rest = self._unread[name].partition(b"\n")
        if not end:
            return None
        self._unread[name] = rest
        return line

    def _ended(self, name: str) -> Unavailable:
        code = self._children[name].wait()
        log = self.log(name).read_text(encoding="utf-8", errors="replace")
        return Unavailable(Reason.RUN_FAILED, f"{name} ended with code {code}: {log[-_TOLD_CHARACTERS:]}")

    def _check(self) -> None:
        """No child has failed, the one that is waited for or another, and no limit is passed."""
        if time.monotonic() > self._over_at:
            raise Unavailable(Reason.TIME, f"not done after {self._time_limit_s:.0f} s")
        for name, child in self._children.items():
            if child.poll():
                raise self._ended(name)
        held = sum(resident_bytes(child.pid) for child in self._children.values())
        if held > self._memory_limit_bytes:
            raise Unavailable(
                Reason.MEMORY,
                f"{', '.join(self._children)} held {held / 2**30:.1f} GiB, allowed are "
                f"{self._memory_limit_bytes / 2**30:.1f} GiB",
            )


def resident_bytes(pid: int) -> int:
    """Memory that a process holds; 0 when it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _real(name: str, key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unavailable(Reason.RUN_FAILED, f"{name} said {key} = {value!r}; needs a number")
    return float(value)


def _said(name: str, line: bytes) -> Said:
    try:
        values = json.loads(line)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise Unavailable(Reason.RUN_FAILED, f"{name} said {line[:200]!r}, which is no JSON object")
    return Said(name, values)
