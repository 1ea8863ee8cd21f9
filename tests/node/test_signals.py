"""Signals that end a process: however close together, from whomever, and within one another."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from mple.exit_codes import ExitCode
from mple.node.signals import ENDING, stop_on_signals
from mple.simulate.children import tied

ROOT = Path(__file__).resolve().parent.parent.parent
TERM, CTRL_C, HANGUP = signal.SIGTERM, signal.SIGINT, signal.SIGHUP
NODES = """
import gc, os, sys
from mple.node import run_node
from tests.support.waiting_node import Settings, wait

def body(settings, stop):
    os.write(1, b"%d\\n" % os.getpid())
    wait(settings, stop)

# One node after the other, each a process of its own that has not to load Python anew, and ends soon.
gc.freeze()
for _ in range(int(sys.argv[2])):
    child = os.fork()
    if not child:
        sys.exit(run_node("mple-test", "serve", Settings, body, ["serve", sys.argv[1]]))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.write(1, b"%d\\n" % code)
"""
WITHIN = """
import os, signal, sys
from mple.node import run_node
from tests.support.waiting_node import Settings, wait

def body(settings, stop):
    with stop._event._cond:  # as a signal finds it that comes within Event.set or Event.wait
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    wait(settings, stop)

sys.exit(run_node("mple-test", "serve", Settings, body, ["serve", sys.argv[1]]))
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "node.toml"
    path.write_text('name = "north"\n', encoding="utf-8")
    return str(path)


def ends(config: str, tries: int, signals: tuple[signal.Signals, ...], gap_s: float) -> Counter[int | str]:
    """How often each exit code came of nodes that got these signals, so far apart."""
    codes: Counter[int | str] = Counter()
    nodes = subprocess.Popen(
        tied([sys.executable, "-W", "ignore", "-c", NODES, config, str(tries)]),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    with nodes as told:
        assert told.stdin is not None
        assert told.stdout is not None
        assert told.stderr is not None
        for _ in range(tries):
            node = int(told.stdout.readline())
            for number in signals:
                os.kill(node, number)
                spin(gap_s)
            told.stdin.write(b".")
            if not select.select([told.stdout], [], [], 30.0)[0]:
                codes["hangs"] += 1
                os.kill(node, signal.SIGKILL)
            codes[int(told.stdout.readline())] += 1
        assert told.stderr.read() == b""
    return codes


def spin(seconds: float) -> None:
    """Wait more exactly than sleeping does."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


@pytest.mark.parametrize(
    ("signals", "gap_s", "tries"),
    [
        pytest.param((TERM, TERM), 60e-6, 50, id="while the first is handled"),
        pytest.param((TERM, TERM), 1e-3, 10, id="while Python tidies up"),
        pytest.param((CTRL_C, TERM), 0.0, 10, id="Ctrl-C and a parent's SIGTERM"),
        pytest.param((CTRL_C, TERM, HANGUP, TERM, CTRL_C), 300e-6, 10, id="many"),
    ],
)
def test_further_signals_do_nothing_more(
    config: str, signals: tuple[signal.Signals, ...], gap_s: float, tries: int
) -> None:
    assert ends(config, tries, signals, gap_s) == {int(ExitCode.INTERRUPTED): tries}


def test_a_signal_takes_no_lock(config: str) -> None:
    command = [sys.executable, "-c", WITHIN, config]
    assert subprocess.run(command, cwd=ROOT, timeout=60, check=False).returncode == ExitCode.INTERRUPTED


@pytest.mark.parametrize(
    ("before", "wait_s", "code"), [([], 60.0, ExitCode.INTERRUPTED), (["nohup"], 2.0, ExitCode.DONE)]
)
def test_a_hangup_ends_a_node_unless_nohup_started_it(
    config: str, before: list[str], wait_s: float, code: ExitCode
) -> None:
    Path(config).write_text(f'name = "north"\nwait_s = {wait_s}\n', encoding="utf-8")
    with subprocess.Popen(
        [*before, sys.executable, "-c", NODES, config, "1"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as nodes:
        assert nodes.stdout is not None
        os.kill(int(nodes.stdout.readline()), HANGUP)
        told, _ = nodes.communicate(b".")
    assert int(told) == code


def test_handlers_come_back_after_a_block_without_a_signal() -> None:
    before = [signal.getsignal(number) for number in ENDING]
    with stop_on_signals() as stop:
        assert signal.getsignal(TERM) not in before
    assert not stop.is_set()
    assert [signal.getsignal(number) for number in ENDING] == before
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.parametrize("last", [True, False])
def test_signals_are_ignored_once_the_process_is_ending(last: bool) -> None:
    with stop_on_signals(last=last) as stop:
        if not last:
            os.kill(os.getpid(), TERM)
            assert stop.wait(10.0)
    os.kill(os.getpid(), TERM)
    os.kill(os.getpid(), CTRL_C)
    assert [signal.getsignal(number) for number in (TERM, CTRL_C)] == [signal.SIG_IGN] * 2
