"""Several nodes in one process: one's end leaves the others alone, and the process's end is told by one of them."""

from __future__ import annotations

import json
import logging
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mple.audit import audit, audit_refusal, open_audit, read_entries, refusals
from mple.audit.trail import FILE_NAME
from mple.disk.storage_faults import note_storage_fault, noted_storage_fault
from mple.exit_codes import ExitCode
from mple.node.logs import log, open_log
from mple.node.retry import StoppedError, UnreachableError
from mple.node.stop import Stop
from mple.node.together import OneNode, run_together
from mple.node.worker import Worker
from mple.records.state_files import LOG
from mple.rpc import ErrorCode, MpleError


@dataclass(frozen=True)
class Settings:
    """Of a node that ends so."""

    state: Path
    fault: Exception | None = None


def nodes(folder: Path, **faults: Exception | None) -> list[OneNode[Settings]]:
    return [OneNode(name=f"site {name}", settings=Settings(folder / name, fault)) for name, fault in faults.items()]


@pytest.fixture(autouse=True)
def _process_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def ending(settings: Settings, _stop: Stop) -> None:
    if settings.fault is not None:
        raise settings.fault


def ended(folder: Path, **faults: Exception | None) -> int:
    return run_together("mple-test", nodes(folder, **faults), ending)


def test_all_done_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(tmp_path, north=None, south=None) == ExitCode.DONE
    assert capsys.readouterr().err == ""


def test_the_exit_code_is_that_of_a_cause_not_of_what_follows_from_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    followed = MpleError(ErrorCode.RUN_FAILED, "site/south failed")
    code = ended(tmp_path, north=followed, south=UnreachableError("gave up on x:1"), west=StoppedError(), east=None)
    told = capsys.readouterr().err.splitlines()
    assert code == ExitCode.UNREACHABLE
    assert "mple-test: site north: RUN_FAILED: the run has failed: site/south failed" in told
    assert "mple-test: site south: gave up on x:1" in told
    assert told[-1] == "mple-test: 3 of 4 have not finished; first site south: gave up on x:1"


def test_where_all_failed_alike_the_first_is_told(tmp_path: Path) -> None:
    followed = MpleError(ErrorCode.RUN_FAILED)
    assert ended(tmp_path, north=followed, south=followed) == ExitCode.RUN_FAILED
    assert ended(tmp_path, north=StoppedError(), south=None) == ExitCode.INTERRUPTED


def test_one_that_fails_leaves_the_others_running(tmp_path: Path) -> None:
    failed = threading.Event()
    finished: list[str] = []

    def body(settings: Settings, stop: Stop) -> None:
        if settings.fault is not None:
            failed.set()
            raise settings.fault
        assert failed.wait(30)
        assert not stop.wait(0.05), "another's end is not the wish that this one end"
        finished.append(settings.state.name)

    given = nodes(tmp_path, north=None, south=ZeroDivisionError("a fault of ours"), west=None)
    assert run_together("mple-test", given, body) == ExitCode.INTERNAL
    assert sorted(finished) == ["north", "west"]


def test_each_has_its_own_log_trail_and_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = threading.Barrier(2)

    def body(settings: Settings, _stop: Stop) -> None:
        name, noted = settings.state.name, []
        settings.state.mkdir()
        open_log(settings.state, name)
        open_audit(settings.state, f"site/{name}")
        written.wait(30)

        def work() -> None:
            log("work", f"{name} at work")
            logging.getLogger("a.library").warning("of %s", name)
            audit("local", "work", "ok", of=name)
            audit_refusal(f"caller/{name}", "ROLE_NOT_ALLOWED")

        Worker("work", work, noted.append).join()
        assert noted == []
        assert list(refusals()) == [(f"caller/{name}", "ROLE_NOT_ALLOWED")]
        if name == "north":
            note_storage_fault(OSError(28, "No space left on device", str(settings.state / "ledger")))
        written.wait(30)
        assert (noted_storage_fault() is None) == (name == "south")

    assert run_together("mple-test", nodes(tmp_path, north=None, south=None), body) == ExitCode.STORAGE
    err = capsys.readouterr().err
    for name, other in (("north", "south"), ("south", "north")):
        lines = [json.loads(line) for line in (tmp_path / name / LOG).read_text().splitlines()]
        assert [line["text"] for line in lines][:2] == [f"{name} at work", f"of {name}"]
        assert {line["node"] for line in lines} == {name}
        assert other not in (tmp_path / name / LOG).read_text()
        assert [entry.what for entry in read_entries(tmp_path / name / FILE_NAME)] == ["work", "refused"]
        assert other not in (tmp_path / name / FILE_NAME).read_text()
        assert f"INFO    {name}: {name} at work\n" in err
    assert "mple-test: site north:" in err
    assert "nothing accepted is lost" in err


def test_too_few_descriptors_are_told_before_anything_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    with pytest.raises(Exception, match=r"20 nodes in one process need \d+ descriptors, this process may open 256"):
        ended(tmp_path, **{f"site-{number}": None for number in range(20)})


WAITING = """
import sys
from pathlib import Path
from mple.node.together import OneNode, run_together
from tests.support.waiting_node import Settings, wait

def body(settings, stop):
    print("ready", flush=True)
    wait(settings, stop)

sys.exit(run_together("mple-test", [OneNode(name=name, settings=Settings(name=name)) for name in "abc"], body))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all(number: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.read(3 * len("ready\n")).count(b"ready") == 3  # bodies write at the same time
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (ExitCode.INTERRUPTED, b"")
