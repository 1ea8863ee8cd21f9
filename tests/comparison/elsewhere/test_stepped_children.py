"""Programs that go on step by step: order, limits, and what their failures say."""

from __future__ import annotations

import os
import sys
import time
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from comparison.elsewhere.stepped import Said, SteppedChildren
from comparison.elsewhere.unavailable import Reason, Unavailable

COUNTING = """
import json, sys
for number in range(2):
    print(json.dumps({"step": number, "values": [number, 0.5]}), flush=True)
    sys.stdin.readline()
print("over", file=sys.stderr)
"""


@pytest.fixture
def children(tmp_path: Path) -> Iterator[SteppedChildren]:
    with SteppedChildren(tmp_path, time_limit_s=30, memory_limit_bytes=2**30, threads=1) as started:
        yield started


def start(children: SteppedChildren, name: str, text: str) -> None:
    children.start(name, [sys.executable, "-I", "-c", text])


def test_children_wait_between_their_steps(children: SteppedChildren) -> None:
    for name in ("a", "b"):
        start(children, name, COUNTING)
    first = children.step_ends()
    children.go_on(["a"])
    second = children.step_ends(["a"])
    assert [first["a"].real("step"), first["b"].real("step"), second["a"].real("step")] == [0, 0, 1]
    assert second["a"].reals("values") == (1, 0.5)
    children.go_on(["b"])
    assert children.step_ends(["b"])["b"].real("step") == 1
    children.go_on()
    children.end()
    assert children.log("a").read_text() == "over\n"


def test_a_module_of_ours_needs_nothing_that_is_installed_here(children: SteppedChildren, tmp_path: Path) -> None:
    venv.create(tmp_path / "environment", with_pip=False)
    children.start_module("a", tmp_path / "environment" / "bin" / "python", "comparison.elsewhere.steps")
    children.end()
    assert sorted(path.name for path in (tmp_path / "packages").iterdir()) == ["comparison", "mple"]


def test_a_failed_child_is_named_with_its_last_words(children: SteppedChildren) -> None:
    start(children, "steady", COUNTING)
    start(children, "broken", "import sys, time; sys.exit('no such key')")
    with pytest.raises(Unavailable, match="broken ended with code 1: no such key") as fault:
        children.step_ends()
    assert fault.value.reason is Reason.RUN_FAILED


def test_another_child_that_fails_is_noticed_while_one_is_waited_for(children: SteppedChildren) -> None:
    start(children, "slow", "import time; time.sleep(60)")
    start(children, "broken", "raise SystemExit(7)")
    with pytest.raises(Unavailable, match="broken ended with code 7"):
        children.step_ends(["slow"])


def test_what_is_no_object_is_refused(children: SteppedChildren) -> None:
    start(children, "a", "print('hello', flush=True); input()")
    with pytest.raises(Unavailable, match="hello"):
        children.step_ends()


def test_time_has_a_limit_and_no_child_is_left(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    text = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    with SteppedChildren(tmp_path, time_limit_s=0.1, memory_limit_bytes=2**30, threads=1) as children:
        start(children, "a", text)
        while not pid.exists() or not pid.read_text():
            time.sleep(0.01)
        with pytest.raises(Unavailable, match="not done after 0 s") as fault:
            children.step_ends()
    assert fault.value.reason is Reason.TIME
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_memory_has_a_limit(tmp_path: Path) -> None:
    with SteppedChildren(tmp_path, time_limit_s=30, memory_limit_bytes=2**27, threads=1) as children:
        start(children, "a", "held = bytearray(b'1') * 2**28; import time; time.sleep(60)")
        with pytest.raises(Unavailable, match=r"allowed are 0\.1 GiB") as fault:
            children.step_ends()
    assert fault.value.reason is Reason.MEMORY


@pytest.mark.parametrize("value", [None, "1", True])
def test_what_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(Unavailable, match="a said seconds"):
        Said("a", {"seconds": value}).real("seconds")
    with pytest.raises(Unavailable, match="a said seconds"):
        Said("a", {"seconds": [value]}).reals("seconds")
