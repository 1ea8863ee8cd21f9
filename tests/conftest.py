"""Fixtures for all tests: a throw-away consortium, its parties' certificates, and a small server that serves it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from mple.audit import close_audit
from mple.cli import main
from mple.node.signals import ENDING
from mple.pki import Authority, approve, create_authority, install, request
from mple.rpc import Party, Role, TlsFiles
from mple.simulate import laying_out
from tests.support.served import PartyTls, Served, serve
from tests.support.typed_command import Said

settings.register_profile("mple", deadline=None)  # a timing is a benchmark, never a test
settings.load_profile("mple")
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).parent / "support" / "hospital"), *filter(None, [os.environ.get("PYTHONPATH")])]
)
"""The sites and coordinators that tests start have a hospital's installation: see the `sitecustomize` there."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of whole runs come first: they are the longest, and no core shall wait for the last of them."""
    items.sort(key=lambda item: "system" not in item.path.parts)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority of consortium `test`."""
    return create_authority(tmp_path_factory.mktemp("authority"), "test")


@pytest.fixture(scope="session")
def party_tls(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> PartyTls:
    """A party's files for 127.0.0.1 and localhost, made at first use. Shared: tests that change files copy them."""
    made: dict[tuple[Role, str], TlsFiles] = {}

    def tls(role: Role, name: str) -> TlsFiles:
        if (role, name) not in made:
            folder = tmp_path_factory.mktemp(f"{role}-{name}")
            asked = request(folder, Party(authority.consortium, role, name), ["127.0.0.1", "localhost"])
            install(folder, approve(authority, asked), authority.certificate_pem)
            made[role, name] = TlsFiles.in_directory(folder)
        return made[role, name]

    return tls


@pytest.fixture(autouse=True)
def own_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a node sets for its whole process ends with the test: signals, log, threads, an open trail, processes."""
    monkeypatch.setattr(laying_out, "_PORTS", own_ports())
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest-xdist sets it, and tables would be cut to it
    signals = {number: signal.getsignal(number) for number in ENDING}
    root, torch = logging.getLogger(), sys.modules.get("torch")
    handlers, level = root.handlers[:], root.level
    threads = torch.get_num_threads() if torch else 0
    before, umask = running_children(), os.umask(0o022)
    os.umask(umask)
    yield
    os.umask(umask)
    for child in running_children() - before:  # of a test that failed half-way: they would load the next ones
        os.kill(child, signal.SIGKILL)
    for number, action in signals.items():
        signal.signal(number, action)
    for handler in [one for one in root.handlers if one not in handlers]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)
    if torch:
        torch.set_num_threads(threads)
    close_audit()


def running_children() -> set[int]:
    """Process ids of this process's children, as Linux tells them; elsewhere none."""
    found: set[int] = set()
    for of_thread in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended
            found.update(map(int, of_thread.read_text().split()))
    return found


def own_ports() -> range:
    """Ports for simulations that no other worker of pytest-xdist gives to its own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return range(20_000, 30_000)[worker :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]


@pytest.fixture
def serving(party_tls: PartyTls, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Starts servers, each with its ledgers in a folder of its own, and stops them after the test."""
    running: list[Served] = []

    def start(*, streams: int = 4, tls: TlsFiles | None = None, listen: str = "127.0.0.1:0") -> Served:
        folder = tmp_path / f"served-{len(running)}"
        folder.mkdir()
        running.append(
            serve(listen, tls or party_tls(Role.COORDINATOR, "coordinator"), folder, party_tls, streams=streams)
        )
        return running[-1]

    yield start
    for one in running:
        one.close()


@pytest.fixture
def served(serving: Callable[..., Served]) -> Served:
    """One server on a free port."""
    return serving()


@pytest.fixture
def mple(capsys: pytest.CaptureFixture[str]) -> Said:
    """Runs the command `mple`: exit code, what it said, what it complained of."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run
