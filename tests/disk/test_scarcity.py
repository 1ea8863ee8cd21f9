"""Want of descriptors, memory or threads: told from all else, waited for where it may pass, and named at the end."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mple.disk import scarcity
from mple.disk.damage import DamagedError
from mple.disk.scarcity import open_patiently, patiently, scarcity_end, scarcity_of
from mple.disk.storage_faults import storage_fault_of
from mple.disk.whole_files import file_sha256, write_whole
from mple.exit_codes import ExitCode
from mple.node.ending import exit_code_of
from mple.rpc import ErrorCode, error_for

ASK_FOR_ALL = """
import os, resource, sqlite3, sys
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
import numpy
from mple.disk.scarcity import raise_own_limit, scarcity_of
save_file({"a": numpy.zeros(3)}, "a.safetensors")
attempts = {
    "open": lambda: open("a.safetensors"),
    "sqlite": lambda: sqlite3.connect("new.sqlite").execute("CREATE TABLE a(b)"),
    "torch": lambda: safe_open("a.safetensors", framework="pt"),
    "numpy": lambda: safe_open("a.safetensors", framework="np"),
    "pipe": os.pipe,
}
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128))
held = [os.open(os.devnull, os.O_RDONLY) for _ in range(60 - int(max(os.listdir("/proc/self/fd"), key=int)))]
try:
    while True:
        held.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
for name, attempt in attempts.items():
    try:
        attempt()
        print(name, "none")
    except Exception as fault:
        print(name, scarcity_of(fault) is fault)
raise_own_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE), open("a.safetensors").readable())
"""


def test_every_library_is_understood_and_a_process_raises_its_own_limit(tmp_path: Path) -> None:
    """By the real thing: a process that has used up its limit, and then raises it to what it may."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    ended = subprocess.run(
        [sys.executable, "-c", ASK_FOR_ALL],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.stdout.splitlines() == [
        *(f"{name} True" for name in ("open", "sqlite", "torch", "numpy", "pipe")),
        "(128, 128) True",
    ], ended.stderr


def chained(fault: Exception) -> Exception:
    try:
        raise ValueError("what a reader makes of it") from fault
    except ValueError as told:
        return told


def reworded(told: type[Exception]) -> Exception:
    """As readers do: a sentence of their own, and not what it was raised from."""
    try:
        try:
            raise OSError(errno.EMFILE, "Too many open files")
        except OSError:
            raise told("plan.json", "can't be read") from None
    except told as fault:
        return fault


def no_thread() -> Exception:
    return RuntimeError("can't start new thread")


def too_large_for_numpy() -> Exception:
    with pytest.raises(MemoryError) as refused:
        np.empty(2**60, np.uint8)
    return refused.value


def too_large_for_torch() -> Exception:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**60, dtype=torch.uint8)
    return refused.value


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: OSError(errno.EMFILE, "Too many open files"), "descriptors"),
        (lambda: OSError(errno.ENFILE, "Too many open files in system"), "descriptors"),
        (lambda: OSError(errno.ENOMEM, "Cannot allocate memory"), "memory"),
        (lambda: BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "memory"),
        (lambda: reworded(ValueError), "descriptors"),
        (lambda: reworded(DamagedError), "descriptors"),
        (no_thread, "threads"),
        (MemoryError, "memory"),
        (too_large_for_numpy, "memory"),
        (too_large_for_torch, "memory"),
        (lambda: chained(OSError(errno.EMFILE, "Too many open files")), "descriptors"),
    ],
)
def test_a_want_is_named_with_its_way_out(make: Callable[[], Exception], what: str) -> None:
    fault = scarcity_of(make())
    assert fault is not None
    end = scarcity_end(fault)
    assert end.code is ExitCode.RESOURCES
    assert f"this process has no {what}" in str(end)
    assert storage_fault_of(make()) is None
    assert exit_code_of(make()) is ExitCode.RESOURCES
    assert error_for(make()).code is ErrorCode.OUT_OF_RESOURCES
    assert end.fix.endswith(" and start it again with the same command")


@pytest.mark.parametrize(
    "fault",
    [
        OSError(errno.ENOSPC, "no room"),
        OSError(errno.ENOENT, "no such file"),
        FileNotFoundError("x"),
        ValueError("can't start new thread"),
        RuntimeError("the sizes of tensors must match"),
        sqlite3.OperationalError("no such table: a"),
        KeyError("x"),
        None,
    ],
)
def test_other_faults_are_none(fault: Exception | None) -> None:
    assert scarcity_of(fault) is None


def short_for(monkeypatch: pytest.MonkeyPatch, tries: int) -> list[str]:
    """Have the next so many openings find no descriptor; the names that were asked for."""
    asked: list[str] = []
    real = os.open

    def short(path: Any, *rest: Any, **more: Any) -> int:
        asked.append(Path(path).name)
        if len(asked) <= tries:
            raise OSError(errno.EMFILE, "Too many open files")
        return real(path, *rest, **more)

    monkeypatch.setattr(os, "open", short)
    monkeypatch.setattr(scarcity, "_LOOK_EVERY_S", 0.001)
    return asked


def test_a_file_is_written_and_read_as_soon_as_there_is_a_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    asked = short_for(monkeypatch, 3)
    write_whole(path, b"content")
    assert asked[:4] == ["a.part"] * 4
    assert path.read_bytes() == b"content"
    asked.clear()
    assert file_sha256(path).hex().startswith("ed7002b439e9ac84")
    assert asked == ["a"] * 4


def test_patience_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = short_for(monkeypatch, 10_000)
    monkeypatch.setattr(scarcity, "PATIENCE_S", 0.05)
    with pytest.raises(OSError, match="Too many open files"):
        open_patiently(tmp_path / "a", os.O_RDONLY)
    assert len(asked) > 1
    assert not list(tmp_path.iterdir())


def test_what_is_no_want_is_told_at_once() -> None:
    tries = 0

    def read() -> bytes:
        nonlocal tries
        tries += 1
        raise FileNotFoundError("a")

    with pytest.raises(FileNotFoundError):
        patiently(read)
    assert tries == 1


def test_waiting_threads_wait_for_their_own_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short_for(monkeypatch, 40)
    paths = [tmp_path / str(number) for number in range(4)]
    threads = [threading.Thread(target=write_whole, args=(path, b"x")) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert all(path.read_bytes() == b"x" for path in paths)


@pytest.mark.parametrize(
    ("limit", "room"), [(1024, 896), (256, 128), (200, 100), (64, 32), (resource.RLIM_INFINITY, 2**20)]
)
def test_peers_get_no_more_than_leaves_enough(monkeypatch: pytest.MonkeyPatch, limit: int, room: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (limit, limit))
    assert scarcity.room_for_peers() == room


def test_the_limit_of_this_process_is_left_alone_where_it_is_the_highest() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        scarcity.raise_own_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
