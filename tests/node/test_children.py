"""Child processes: how they end is told truly, and none is left, however they behave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mple.exit_codes import ExitCode
from mple.simulate.children import Children, Ended, command, root_cause, tied
from mple.simulate.rank_launcher import exit_code

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
PARENT = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {DEAF!r}])
print(child.pid, flush=True)
time.sleep(float(sys.argv[1]))
"""


def wait_for(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    give_up_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up_at, "it did not come about"
        time.sleep(0.02)


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def grandchild_in(log: Path) -> int:
    return next(int(line) for line in log.read_text().splitlines() if line.isdigit())


def all_ended(children: Children) -> list[Ended]:
    ended: list[Ended] = []

    def over() -> bool:
        ended.extend(children.ended())
        return not children.running

    wait_for(over)
    return ended


RANKS = f"""
import os, subprocess, sys
ranks = [
    subprocess.Popen([sys.executable, "-c", {DEAF!r}], env=dict(os.environ, RANK=str(rank)), start_new_session=True)
    for rank in range(2)
]
sys.exit([rank.wait() for rank in ranks][0])
"""


def test_ranks_in_sessions_of_their_own_are_reached_through_their_launcher(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with Children(grace_s=0.2) as children:
        children.start("compute", python(RANKS), log_text=log, threads=1)
        wait_for(lambda: log.exists() and log.read_text().count("ready") == 2)
        ranks = children.ranks("compute")
        assert sorted(ranks) == [0, 1]

        def states() -> set[str]:
            return {Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in ranks.values()}

        assert children.pause("compute")
        wait_for(lambda: states() == {"T"})
        children.go_on("compute")
        wait_for(lambda: states() == {"S"})
        assert children.kill_rank("compute", 1)
        wait_for(lambda: not alive(ranks[1]))
        assert not children.kill_rank("compute", 1)
        assert children.kill("compute") == 137
        wait_for(lambda: not alive(ranks[0]))
        assert children.ranks("compute") == {}


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ([ExitCode.UNREACHABLE, ExitCode.BAD_USAGE], ExitCode.BAD_USAGE),
        ([-15, ExitCode.RUN_FAILED], ExitCode.RUN_FAILED),
        ([ExitCode.INTERRUPTED, ExitCode.RESOURCES, -9], ExitCode.RESOURCES),
        ([-9, -15], 137),
    ],
)
def test_ranks_end_with_the_code_of_the_one_that_others_followed(codes: list[int], code: int) -> None:
    assert exit_code(codes) == code


def test_ends_are_told_once_with_codes_as_a_shell_has_them(tmp_path: Path) -> None:
    with Children(grace_s=5.0) as children:
        children.start("good", python("print('out')"), log_text=tmp_path / "good.txt", threads=1)
        children.start("bad", python("import sys; sys.exit('sorry')"), log_text=tmp_path / "bad.txt", threads=1)
        killed = "import os; os.kill(os.getpid(), 9)"
        children.start("killed", python(killed), log_text=tmp_path / "killed.txt", threads=1)
        assert set(all_ended(children)) == {Ended("good", 0), Ended("bad", 1), Ended("killed", 137)}
        assert children.ended() == []
    assert (tmp_path / "good.txt").read_text() == "out\n"
    assert (tmp_path / "bad.txt").read_text() == "sorry\n"


def test_a_child_that_steps_back_does_so_with_all_its_threads(tmp_path: Path) -> None:
    show = (
        "import os, threading, time; time.sleep(0.5); "
        "threading.Thread(target=lambda: print(os.getpriority(os.PRIO_PROCESS, 0), flush=True)).start()"
    )
    with Children(5.0) as children:
        children.start("back", python(show), log_text=tmp_path / "back.txt", threads=1, nice=7)
        children.start("front", python(show), log_text=tmp_path / "front.txt", threads=1)
        all_ended(children)
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert (tmp_path / "back.txt").read_text() == "7\n"
    assert (tmp_path / "front.txt").read_text() == f"{own}\n"


def test_numeric_threads_are_set_before_the_child_starts(tmp_path: Path) -> None:
    show = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['OMP_WAIT_POLICY'])"
    with Children(grace_s=5.0) as children:
        children.start("one", python(show), log_text=tmp_path / "one.txt", threads=3)
        all_ended(children)
    assert (tmp_path / "one.txt").read_text() == "3 PASSIVE\n"


def test_leaving_stops_a_child_by_asking(tmp_path: Path) -> None:
    polite = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit('asked to')); "
        "print('ready', flush=True); time.sleep(60)"
    )
    log = tmp_path / "log.txt"
    with Children(grace_s=30.0) as children:
        children.start("polite", python(polite), log_text=log, threads=1)
        wait_for(lambda: "ready\n" in log.read_text())
    assert log.read_text() == "ready\nasked to\n"
    assert not children.running


def test_a_child_that_does_not_listen_is_killed_after_the_grace_time(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with Children(grace_s=0.2) as children:
        children.start("deaf", python(DEAF), log_text=log, threads=1)
        wait_for(lambda: "ready\n" in log.read_text())
        assert children.stop() == [Ended("deaf", 137)]


def test_a_fault_of_the_caller_leaves_no_child(tmp_path: Path) -> None:
    children, log = Children(grace_s=0.2), tmp_path / "log.txt"

    def begin_and_fail() -> None:
        with children:
            children.start("parent", python(PARENT, "60"), log_text=log, threads=1)
            wait_for(lambda: "ready\n" in log.read_text())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        begin_and_fail()
    assert not children.running
    wait_for(lambda: not alive(grandchild_in(log)))


@pytest.mark.parametrize("seconds", ["0.5", "60"], ids=["left behind", "still with its parent"])
def test_grandchildren_go_too(tmp_path: Path, seconds: str) -> None:
    log = tmp_path / "log.txt"
    with Children(grace_s=0.2) as children:
        children.start("parent", python(PARENT, seconds), log_text=log, threads=1)
        wait_for(lambda: "ready\n" in log.read_text())
        grandchild = grandchild_in(log)
        assert alive(grandchild)
        if seconds == "0.5":
            all_ended(children)
    wait_for(lambda: not alive(grandchild))


def test_a_killed_child_is_gone_at_once_and_may_be_started_again(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with Children(grace_s=0.2) as children:
        children.start("parent", python(PARENT, "60"), log_text=log, threads=1)
        wait_for(lambda: "ready\n" in log.read_text())
        assert children.kill("parent") == 137
        assert children.running == ()
        assert children.ended() == []
        assert children.kill("parent") is None
        wait_for(lambda: not alive(grandchild_in(log)))
        children.start("parent", python("import sys; sys.exit(4)"), log_text=log, threads=1)
        assert all_ended(children) == [Ended("parent", 4)]


def test_a_held_child_goes_on_where_it_was_and_can_be_stopped(tmp_path: Path) -> None:
    count = "import time\nfor i in range(10_000):\n print(i, flush=True)\n time.sleep(0.01)"
    log = tmp_path / "log.txt"
    with Children(grace_s=20.0) as children:
        children.start("counting", python(count), log_text=log, threads=1)
        wait_for(lambda: "3\n" in log.read_text())
        assert children.pause("counting")
        assert not children.pause("absent")
        wait_for(lambda: state(children_pid(count)) == "T")
        held = log.read_text()
        time.sleep(0.1)
        assert log.read_text() == held
        children.go_on("counting")
        wait_for(lambda: log.read_text() != held)
        assert children.pause("counting")
        assert children.stop() == [Ended("counting", 143)]


KILLED_PARENT = """
import sys, time
from pathlib import Path
from mple.simulate.children import Children
from tests.node.test_children import DEAF, python
with Children(grace_s=5.0) as children:
    for name in ("held", "deaf"):
        children.start(name, python(DEAF), log_text=Path(sys.argv[1], name), threads=1)
    while not all("ready" in Path(sys.argv[1], name).read_text() for name in children.running):
        time.sleep(0.02)
    children.pause("held")
    print(*(child.pid for child in children._running.values()), flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a killed parent can't take its children along")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_children_die_with_a_parent_that_can_not_see_to_it(tmp_path: Path, number: signal.Signals) -> None:
    """Those that hear nothing, and those that are held."""
    with subprocess.Popen(tied(python(KILLED_PARENT, str(tmp_path))), stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(map(alive, pids))
        os.kill(parent.pid, number)
        wait_for(lambda: not any(map(alive, pids)))


def test_a_child_whose_parent_is_gone_before_it_could_be_tied_does_not_begin(tmp_path: Path) -> None:
    command = tied(python("print('begun')"))
    command[command.index(str(os.getpid()))] = "1"  # as if another had been the parent
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (137, "")


def test_elsewhere_than_on_linux_a_tied_child_is_the_command_alone() -> None:
    command = tied(python("import sys; print(sys.argv[1]); sys.exit(3)", "word"))
    place = next(place for place, word in enumerate(command) if "prctl" in word)
    command[place] = "import sys; sys.platform = 'darwin'" + command[place]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (3, "word\n")


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def children_pid(code: str) -> int:
    """The process that runs this code."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        if entry.read_bytes().rstrip(b"\0").endswith(code.encode()):
            return int(entry.parent.name)
    raise AssertionError("no such process")


def test_the_cause_is_the_child_whose_failure_is_its_own() -> None:
    followers = [Ended("coordinator", ExitCode.RUN_FAILED), Ended("north", ExitCode.RUN_FAILED)]
    assert root_cause([Ended("north", ExitCode.DONE)]) is None
    assert root_cause(followers) == followers[0]
    assert root_cause([*followers, Ended("east", ExitCode.BAD_USAGE)]) == Ended("east", ExitCode.BAD_USAGE)


def test_the_coordinator_knows_best_who_failed() -> None:
    ended = [Ended("coordinator", ExitCode.RUN_FAILED), Ended("compute", ExitCode.INTERNAL), Ended("north", 3)]
    assert root_cause(ended, "north") == Ended("north", 3)
    assert root_cause(ended, "nobody here") == Ended("compute", ExitCode.INTERNAL)
    assert root_cause([Ended("north", 0), Ended("east", 3)], "north") == Ended("east", 3)


def test_node_commands_are_those_beside_this_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert command("mple-compute") == [str(tmp_path / "python"), "-m", "compute_node"]
    (tmp_path / "mple-compute").touch()
    assert command("mple-compute") == [str(tmp_path / "mple-compute")]
