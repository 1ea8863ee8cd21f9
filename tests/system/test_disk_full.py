"""A disk that fills up: the node stops and says so, the others wait, and with room the run ends as if nothing had been.

Two ways to a full disk: a small file system under the state folder, where this process may mount one, and a limit on
the size of files, which every process may set for its children.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from mple.exit_codes import ExitCode
from mple.records.run_folder import COMPUTE, COORDINATOR, RunFolder
from mple.report import Summary, summarise
from mple.simulate.children import Children
from mple.simulate.repeat import lay_out_again
from mple.simulate.runner import simulate
from tests.support.small_consortium import node_command, small_settings, start_node, wait_for_end, write_pictures

FEWEST_BYTES = {COMPUTE: 1_000_000, COORDINATOR: 400_000}
"""Less than the compute node's cache and the coordinator's first layer take, more than what comes before them."""
LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    folder = tmp_path_factory.mktemp("undisturbed")
    settings = small_settings(write_pictures(folder / "set.npz"), epochs=2)
    summary = simulate(settings, folder / "run", Console(file=StringIO(), width=160), plain=True)
    assert summary is not None
    return summary


def test_a_limit_on_the_size_of_files(undisturbed: Summary, tmp_path: Path) -> None:
    """The coordinator ends when the first layer comes; started again it goes on, and then the compute node ends."""
    folder, _ = lay_out_again(undisturbed.folder.path, tmp_path / "run")
    short = (COORDINATOR, COMPUTE)
    with Children(5.0) as children:
        for name in short:
            limited = [sys.executable, "-c", LIMITED, str(FEWEST_BYTES[name]), *node_command(folder, name)]
            children.start(name, limited, log_text=folder.log_text(name), threads=1)
        for name in folder.sites:
            start_node(children, folder, name)
        for name in short:
            ends_for_want_of_room(children, folder, name)
            start_node(children, folder, name)
        ends_as_if_nothing_had_been(children, folder, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("name", [COMPUTE, COORDINATOR])
def test_a_file_system_without_room(undisturbed: Summary, tmp_path: Path, name: str) -> None:
    folder, _ = lay_out_again(undisturbed.folder.path, tmp_path / "run")
    folder.state(name).mkdir()
    with mounted(folder.state(name), FEWEST_BYTES[name] + 500_000) as make_room, Children(5.0) as children:
        for each in folder.nodes:
            start_node(children, folder, each)
        ends_for_want_of_room(children, folder, name)
        make_room()
        start_node(children, folder, name)
        ends_as_if_nothing_had_been(children, folder, undisturbed)


def ends_for_want_of_room(children: Children, folder: RunFolder, name: str) -> None:
    """The node says why and what to do; nobody else ends."""
    assert wait_for_end(children, {name}) == {name: ExitCode.STORAGE}, folder.log_text(name).read_text()
    lines = folder.log_text(name).read_text().splitlines()
    sentence, fix = [line for line in lines if line.startswith("mple-")]  # a thread may log after it
    assert "can't be written" in sentence
    assert "start the node again with the same command" in fix
    time.sleep(1.0)
    assert children.ended() == []
    assert set(children.running) == set(folder.nodes) - {name}


def ends_as_if_nothing_had_been(children: Children, folder: RunFolder, undisturbed: Summary) -> None:
    """All are there and have room: the same network, to the last bit."""
    assert set(wait_for_end(children, set(folder.nodes)).values()) == {ExitCode.DONE}
    summary = summarise(folder.path)
    assert summary.outcome.model_sha256 == undisturbed.outcome.model_sha256
    assert [epoch.loss for epoch in summary.epochs] == [epoch.loss for epoch in undisturbed.epochs]
    assert summary.balance.balanced, summary.balance.offenders


@contextlib.contextmanager
def mounted(path: Path, size_bytes: int) -> Iterator[Callable[[], None]]:
    """A file system of this size at `path`; yields what makes it larger."""

    def mount(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["mount", *options, str(path)], capture_output=True, text=True, check=False)

    made = mount("-t", "tmpfs", "-o", f"size={size_bytes},mode=700", "tmpfs")
    if made.returncode != 0:
        pytest.skip(f"no file system may be mounted here: {made.stderr.strip()}")
    try:
        yield lambda: mount("-o", "remount,size=64m").check_returncode()
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
