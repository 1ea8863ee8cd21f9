"""Nodes whose descriptors others take: connections without a word are bounded, and nothing is imported late."""

from __future__ import annotations

import contextlib
import resource
import socket
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from mple.disk.scarcity import raise_own_limit
from mple.exit_codes import ExitCode
from mple.plan import ComputeSettings, CoordinatorSettings, read_settings
from mple.records.run_folder import COMPUTE, COORDINATOR, RunFolder
from mple.report import Summary, summarise
from mple.rpc.tls import split_address
from mple.simulate.children import Children
from mple.simulate.repeat import lay_out_again
from mple.simulate.runner import simulate
from tests.support.small_consortium import (
    node_command,
    small_settings,
    start_node,
    wait_for_end,
    wait_for_text,
    write_pictures,
)

MOST_IDLE = 1100
"""Connections that stay idle at each listening node."""
LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[1])))
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    """A run whose nodes print what they import."""
    folder = tmp_path_factory.mktemp("undisturbed")
    settings = small_settings(write_pictures(folder / "set.npz", train=60, test=12), epochs=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPROFILEIMPORTTIME", "1")
        summary = simulate(settings, folder / "run", Console(file=StringIO(), width=160), plain=True)
    assert summary is not None
    return summary


def test_no_node_imports_anything_once_it_lives(undisturbed: Summary) -> None:
    """An import needs a descriptor, and one that fails half-way is never mended."""
    late: list[str] = []
    for name in undisturbed.folder.nodes:
        lines = undisturbed.folder.log_text(name).read_text().splitlines()
        told = [place for place, line in enumerate(lines) if " INFO " in line]
        imported = [line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")]
        assert "mple.node.session" in imported, "they do print it"
        late += [f"{name}: {line}" for line in lines[told[0] : told[-1]] if line.startswith("import time:")]
    assert not late


@pytest.mark.parametrize(
    ("limit", "idle_connections"), [(1024, MOST_IDLE), pytest.param(200, 300, marks=pytest.mark.slow)]
)
def test_more_idle_connections_than_descriptors_end_no_run(
    undisturbed: Summary, tmp_path: Path, limit: int, idle_connections: int
) -> None:
    """They are there before the sites are, and until the run has ended."""
    folder, _ = lay_out_again(undisturbed.folder.path, tmp_path / "run")
    with roomy(), contextlib.ExitStack() as idle, Children(5.0) as children:
        for name in (COORDINATOR, COMPUTE):
            limited = [sys.executable, "-c", LIMITED, str(limit), *node_command(folder, name)]
            children.start(name, limited, log_text=folder.log_text(name), threads=1)
        for name in (COORDINATOR, COMPUTE):
            wait_for_text(folder.log_text(name), "listening on")
            address = split_address(listening(folder, name))
            for _ in range(idle_connections):
                idle.enter_context(socket.create_connection(address, timeout=20))
        for name in folder.sites:
            start_node(children, folder, name)
        assert set(wait_for_end(children, set(folder.nodes), 120.0).values()) == {ExitCode.DONE}
    again = summarise(folder.path)
    assert again.outcome.model_sha256 == undisturbed.outcome.model_sha256
    assert again.balance.balanced, again.balance.offenders


def listening(folder: RunFolder, name: str) -> str:
    kind: type[CoordinatorSettings | ComputeSettings] = CoordinatorSettings if name == COORDINATOR else ComputeSettings
    return read_settings(kind, folder.config(name)).listen


@contextlib.contextmanager
def roomy() -> Iterator[None]:
    """This process may open as many files as it can be let."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    raise_own_limit()
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 2 * MOST_IDLE + 200:
        pytest.skip("this system allows too few open files to try it")
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
