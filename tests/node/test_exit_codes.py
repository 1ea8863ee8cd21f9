"""How a node ends: each kind of end has its exit code, one sentence on stderr, and the rest in the log."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from mple import __version__
from mple.exit_codes import ExitCode
from mple.node import run_node
from mple.node.logs import log, open_log
from mple.node.retry import StoppedError, UnreachableError
from mple.node.stop import Stop
from mple.rpc import ErrorCode, MpleError, PortError, TlsError
from tests.support.waiting_node import Settings

Body = Callable[[Settings, Stop], None]
WAITING = """
import sys
from mple.node import run_node
from tests.support.waiting_node import Settings, wait

def body(settings, stop):
    print("ready", flush=True)
    wait(settings, stop)

sys.exit(run_node("mple-test", "serve", Settings, body, sys.argv[1:]))
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text('name = "north"\n', encoding="utf-8")
    return path


def run(body: Body, *arguments: str | Path) -> int:
    return run_node("mple-test", "serve", Settings, body, [str(argument) for argument in arguments])


def ending_with(fault: Exception) -> Body:
    def body(_settings: Settings, _stop: Stop) -> None:
        raise fault

    return body


def done(_settings: Settings, _stop: Stop) -> None:
    pass


def test_a_body_that_returns_is_done_and_a_stopped_one_has_no_more_to_say(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(done, "serve", config) == ExitCode.DONE
    assert run(ending_with(StoppedError()), "serve", config) == ExitCode.INTERRUPTED
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (ValueError("threads = 0"), ExitCode.BAD_USAGE),
        (TlsError("no key file"), ExitCode.BAD_USAGE),
        (PortError("can't listen on 127.0.0.1:7400"), ExitCode.BAD_USAGE),
        (MpleError(ErrorCode.RUN_FAILED, "site/south: no disk"), ExitCode.RUN_FAILED),
        (MpleError(ErrorCode.UNKNOWN_PARTY), ExitCode.RUN_FAILED),
        (UnreachableError("gave up on 127.0.0.1:7400"), ExitCode.UNREACHABLE),
        (MpleError(ErrorCode.CERTIFICATE_REVOKED, "it was revoked on 2026-11-24"), ExitCode.UNREACHABLE),
        (OSError("the ledger can't be written: disk full"), ExitCode.INTERNAL),
        (grpc.RpcError("stray"), ExitCode.INTERNAL),
        (RuntimeError("a fault of ours"), ExitCode.INTERNAL),
        (KeyError("a fault of ours"), ExitCode.INTERNAL),
    ],
)
def test_a_fault_has_its_exit_code_and_a_sentence(
    config: Path, fault: Exception, code: ExitCode, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(ending_with(fault), "serve", config) == code
    assert f"mple-test: {fault}\n" in capsys.readouterr().err


def test_the_way_out_stands_in_a_line_of_its_own(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fault = MpleError(ErrorCode.PROTOCOL_VERSION, "the party speaks 1", fix="upgrade it")
    assert run(ending_with(fault), "serve", config) == ExitCode.RUN_FAILED
    assert capsys.readouterr().err.endswith("differ: the party speaks 1\nmple-test: fix: upgrade it\n")


def test_exit_codes_are_what_scripts_rely_on() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "DONE": 0,
        "BAD_USAGE": 2,
        "RUN_FAILED": 3,
        "UNREACHABLE": 4,
        "INTERNAL": 5,
        "STORAGE": 6,
        "DAMAGED": 7,
        "RESOURCES": 8,
        "INTERRUPTED": 130,
    }


def test_a_missing_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(done, "serve", tmp_path / "nowhere.toml") == ExitCode.BAD_USAGE
    assert "no configuration file at" in capsys.readouterr().err
    assert run(done, "serve", tmp_path) == ExitCode.BAD_USAGE
    assert f"{tmp_path} can't be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = ", "not valid TOML"),
        ("", "name is missing"),
        ('nmae = "north"', "did you mean name?"),
        ("name = 3", "name = 3 is not a text"),
        ('name = "north"\nthreads = 0', "threads = 0; must be above 0"),
    ],
)
def test_a_configuration_that_is_wrong(config: Path, text: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(text, encoding="utf-8")
    assert run(done, "serve", config) == ExitCode.BAD_USAGE
    assert words in capsys.readouterr().err


def test_overrides_come_after_the_file(config: Path) -> None:
    seen: list[Settings] = []

    def body(settings: Settings, _stop: Stop) -> None:
        seen.append(settings)

    assert run(body, "serve", config, "--set", "threads=3", "--set", "name=south") == 0
    assert seen == [Settings(name="south", threads=3)]
    assert run(body, "serve", config, "--set", "threads=0") == ExitCode.BAD_USAGE


@pytest.mark.parametrize("arguments", [[], ["serve"], ["start", "x.toml"], ["serve", "x.toml", "--nonsense"]])
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(done, *arguments) == ExitCode.BAD_USAGE
    sentence, fix = capsys.readouterr().err.splitlines()
    assert sentence.startswith("mple-test: ")
    assert fix in ("mple-test: fix: see mple-test --help", "mple-test: fix: see mple-test serve --help")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(done, "--version") == 0
    assert capsys.readouterr().out == f"mple-test {__version__}\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_body_end(config: Path, number: signal.Signals) -> None:
    root = Path(__file__).resolve().parent.parent.parent
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, "serve", str(config)], cwd=root, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == ExitCode.INTERRUPTED


def test_the_log_has_lines_for_machines_and_for_people(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def body(_settings: Settings, _stop: Stop) -> None:
        open_log(tmp_path, "north")
        log("joined", "joined run é7", run_id="é7", images=3)
        logging.getLogger("another.library").warning("of %s", "theirs")
        raise ValueError("shapes (2,) and (3,) differ")

    assert run(body, "serve", config) == ExitCode.BAD_USAGE
    joined, theirs, ended = [
        json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert joined.pop("time").endswith("+00:00")
    assert joined == {
        "level": "info",
        "node": "north",
        "event": "joined",
        "text": "joined run é7",
        "run_id": "é7",
        "images": 3,
    }
    assert (theirs["level"], theirs["event"], theirs["text"]) == ("warning", "log", "of theirs")
    assert "test_exit_codes.py" in ended["traceback"], "what looks like bad data may be a fault of ours after all"
    people = capsys.readouterr().err
    assert "INFO    joined run é7" in people
    assert "Traceback" not in people
