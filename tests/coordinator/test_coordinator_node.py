"""The coordinator's process: how it starts and ends, what it exits with, and that a killed one goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coordinator.node import main, serve
from mple.exit_codes import ExitCode
from mple.meter import Ledger
from mple.node.ending import exit_code_of
from mple.node.run_events import read_plan
from mple.node.stop import Stop
from mple.pki import seal
from mple.plan import CoordinatorSettings, Custody, ModelSettings, MorphSettings, RunPlan, write_settings
from mple.plan.orders import seal_info
from mple.rpc import Party, open_channel
from mple.simulate.children import tied
from mple.v1 import coordinator_pb2
from tests.support.open_coordinator import DEADLINE_S, Stub, honest_layer, read, report, upload
from tests.support.served import PartyTls
from tests.support.small_plan import key_of
from tests.support.small_run import (
    COMPUTE,
    COORDINATOR,
    MODEL,
    SITES,
    begin_of,
    chunks_of,
    compute_join,
    settings_in,
    site_join,
    site_party,
    told,
)

PLAN_MADE = 3
"""Number of the event with the plan for the first site: it has joined before, and has got the others' certificates."""


@pytest.fixture
def settings(tmp_path: Path, party_tls: PartyTls) -> CoordinatorSettings:
    """A configuration with the coordinator's certificates in place."""
    tls = party_tls(COORDINATOR.role, COORDINATOR.name)
    shutil.copytree(tls.key.parent, tmp_path / "tls")
    return settings_in(tmp_path)


@pytest.fixture(autouse=True)
def _process_as_before() -> Iterator[None]:
    """A node takes over its process's log."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def config(settings: CoordinatorSettings) -> str:
    path = settings.state.parent / "coordinator.toml"
    path.write_text(write_settings(settings))
    return str(path)


def log_lines(settings: CoordinatorSettings) -> list[dict[str, str]]:
    path = settings.state / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def await_address(settings: CoordinatorSettings, starts: int = 1) -> str:
    """Where the coordinator listens, once it has started so many times on its state folder."""
    for _ in range(int(DEADLINE_S / 0.02)):
        told = [line["text"] for line in log_lines(settings) if line["event"] == "listening"]
        if len(told) >= starts:
            return told[-1].removeprefix("listening on ")
        threading.Event().wait(0.02)
    raise AssertionError("the coordinator does not listen")


class Parties:
    """The other parties, dialling one address."""

    def __init__(self, address: str, party_tls: PartyTls, folder: Path, stack: contextlib.ExitStack) -> None:
        self._stubs: dict[str, Stub] = {}
        for party in (COMPUTE, *map(site_party, SITES)):
            ledger = stack.enter_context(Ledger(folder / f"{party.name}.sqlite", party.label))
            tls = party_tls(party.role, party.name)
            self._stubs[party.label] = Stub(stack.enter_context(open_channel(address, tls, COORDINATOR, ledger)))

    def of(self, party: Party) -> Stub:
        return self._stubs[party.label]

    def site(self, name: str) -> Stub:
        return self.of(site_party(name))

    def join(self) -> RunPlan:
        for site in SITES:
            self.site(site).Join(site_join(site), timeout=DEADLINE_S)
        self.of(COMPUTE).Join(compute_join(), timeout=DEADLINE_S)
        return self.plan()

    def plan(self) -> RunPlan:
        return read_plan(read(self.site("north"), PLAN_MADE)[-1].plan_made)

    def train(self, plan: RunPlan) -> None:
        compute = self.of(COMPUTE)
        report(compute, layers_stored=coordinator_pb2.LayersStored(plan_sha256=plan.sha256()))
        report(compute, training_done=coordinator_pb2.TrainingDone(model_sha256=MODEL))
        for party in (COMPUTE, *map(site_party, SITES)):
            report(self.of(party), ledger_totals=coordinator_pb2.LedgerTotals())

    def hear(self) -> list[list[str]]:
        """What everybody hears until the stream ends."""

        def story(stub: Stub) -> list[str]:
            return [told(event) for event in stub.Watch(coordinator_pb2.WatchRequest(), timeout=DEADLINE_S)]

        with ThreadPoolExecutor(len(self._stubs)) as threads:
            return list(threads.map(story, self._stubs.values()))


@pytest.fixture
def parties(party_tls: PartyTls, tmp_path: Path) -> Iterator[Callable[[str], Parties]]:
    with contextlib.ExitStack() as stack:
        yield lambda address: Parties(address, party_tls, tmp_path, stack)


@pytest.fixture
def serving(settings: CoordinatorSettings) -> Iterator[Callable[..., tuple[Stop, list[ExitCode]]]]:
    """Runs `serve` in threads; their exit codes arrive in the list."""
    started: list[tuple[threading.Thread, Stop]] = []

    def start(settings: CoordinatorSettings) -> tuple[Stop, list[ExitCode]]:
        stop, codes = Stop(), list[ExitCode]()

        def run() -> None:
            try:
                serve(settings, stop)
                codes.append(ExitCode.DONE)
            except Exception as fault:
                codes.append(exit_code_of(fault))

        thread = threading.Thread(target=run)
        started.append((thread, stop))
        thread.start()
        return stop, codes

    yield start
    for thread, stop in started:
        stop.set()
        thread.join(30)


def await_code(codes: list[ExitCode]) -> ExitCode:
    for _ in range(int(DEADLINE_S / 0.02)):
        if codes:
            return codes[0]
        threading.Event().wait(0.02)
    raise AssertionError("the coordinator does not end")


class Process:
    """`python -m coordinator serve`."""

    def __init__(self, settings: CoordinatorSettings) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        arguments = [sys.executable, "-m", "coordinator", "serve", config(settings)]
        self.process = subprocess.Popen(tied(arguments), stderr=subprocess.PIPE, text=True, env=environment)

    def end(self, how: signal.Signals | None = None) -> tuple[int, str]:
        """Exit code and what stood on stderr, after a signal or of its own accord."""
        if how is not None:
            self.process.send_signal(how)
        _, stderr = self.process.communicate(timeout=60)
        return self.process.returncode, stderr


@pytest.fixture
def start_process() -> Iterator[Callable[[CoordinatorSettings], Process]]:
    started: list[Process] = []

    def start(settings: CoordinatorSettings) -> Process:
        started.append(Process(settings))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.end(signal.SIGKILL)


def test_busy_port_is_named(settings: CoordinatorSettings, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert main(["serve", config(dataclasses.replace(settings, listen=address))]) == ExitCode.BAD_USAGE
    assert f"can't listen on {address}: another program has the port" in capsys.readouterr().err


def test_state_that_is_no_folder_is_named(settings: CoordinatorSettings, capsys: pytest.CaptureFixture[str]) -> None:
    settings.state.touch()
    assert main(["serve", config(settings)]) == ExitCode.BAD_USAGE
    assert f"state = {settings.state} can't be used: File exists" in capsys.readouterr().err


def test_certificate_of_another_role_is_refused(
    settings: CoordinatorSettings, party_tls: PartyTls, capsys: pytest.CaptureFixture[str]
) -> None:
    other = dataclasses.replace(settings, tls=party_tls(COMPUTE.role, COMPUTE.name).key.parent)
    assert main(["serve", config(other)]) == ExitCode.BAD_USAGE
    assert "is of compute/compute; this node needs one of role coordinator" in capsys.readouterr().err


def test_configuration_of_another_run_is_refused(
    settings: CoordinatorSettings,
    serving: Callable[..., tuple[Stop, list[ExitCode]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    stop, codes = serving(settings)
    await_address(settings)
    stop.set()
    assert await_code(codes) is ExitCode.INTERRUPTED
    other = settings_in(settings.state.parent, sites=("north", "south"))
    assert main(["serve", config(other)]) == ExitCode.BAD_USAGE
    error = capsys.readouterr().err
    assert f"{settings.state} holds run " in error
    assert "begun with another run.sites; restore the configuration, or name another state folder" in error


def test_second_coordinator_on_one_state_folder_is_refused(
    settings: CoordinatorSettings,
    serving: Callable[..., tuple[Stop, list[ExitCode]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    serving(settings)
    await_address(settings)
    assert main(["serve", config(settings)]) == ExitCode.BAD_USAGE
    assert f"another mple-coordinator (process {os.getpid()}) works in {settings.state}" in capsys.readouterr().err


def test_failed_run_ends_the_process_once_all_know(
    settings: CoordinatorSettings,
    serving: Callable[..., tuple[Stop, list[ExitCode]]],
    parties: Callable[[str], Parties],
) -> None:
    _, codes = serving(settings)
    others = parties(await_address(settings))
    others.join()
    with ThreadPoolExecutor(1) as threads:
        heard = threads.submit(others.hear)
        report(others.site("south"), failure=coordinator_pb2.Failure(text="fire"))
        for story in heard.result(60):
            assert story[-1] == "failed"
    assert await_code(codes) is ExitCode.RUN_FAILED
    assert "unheard" not in [line["event"] for line in log_lines(settings)]


def test_coordinator_that_stays_serves_until_stopped(
    settings: CoordinatorSettings,
    serving: Callable[..., tuple[Stop, list[ExitCode]]],
    parties: Callable[[str], Parties],
) -> None:
    settings = dataclasses.replace(settings, stay=True)
    stop, codes = serving(settings)
    others = parties(await_address(settings))
    plan = others.join()
    for site in SITES:
        upload(others.site(site), plan, site, honest_layer(plan, site, settings.state, bytes(32)))
    others.train(plan)
    for _ in range(2):
        for story in others.hear():
            assert story[-2:] == ["training", "finished"]
    assert codes == []
    stop.set()
    assert await_code(codes) is ExitCode.INTERRUPTED


def test_killed_coordinator_goes_on_in_the_middle_of_set_up(
    settings: CoordinatorSettings,
    start_process: Callable[[CoordinatorSettings], Process],
    parties: Callable[[str], Parties],
) -> None:
    """One layer released, half of the second here, then SIGKILL; then all goes on at the same address to the end."""
    first = start_process(settings)
    address = await_address(settings)
    others = parties(address)
    plan = others.join()
    layers = {site: honest_layer(plan, site, settings.state.parent, bytes(32)) for site in SITES}
    upload(others.site("north"), plan, "north", layers["north"])
    others.site("south").BeginLayer(begin_of(plan, "south", layers["south"]), timeout=DEADLINE_S)
    feeding = threading.Event()
    part = settings.state / "layers" / f"{hashlib.sha256(layers['south']).hexdigest()}.part"

    def half() -> Iterator[coordinator_pb2.UploadLayerRequest]:
        yield from list(chunks_of(layers["south"], size=50_000))[:2]
        feeding.wait(DEADLINE_S)

    uploading = others.site("south").UploadLayer.future(half(), timeout=DEADLINE_S)
    for _ in range(1000):
        if part.exists() and part.stat().st_size == 100_000:
            break
        threading.Event().wait(0.01)
    code, _ = first.end(signal.SIGKILL)
    feeding.set()
    assert code == -signal.SIGKILL
    assert uploading.exception(DEADLINE_S) is not None

    second = start_process(dataclasses.replace(settings, listen=address))
    assert await_address(settings, starts=2) == address
    others = parties(address)
    assert others.plan().to_json() == plan.to_json()
    begun = others.site("south").BeginLayer(begin_of(plan, "south", layers["south"]), timeout=DEADLINE_S)
    assert begun.resume_offset == 100_000
    for site in ("south", "west", "north"):
        upload(others.site(site), plan, site, layers[site])
    with ThreadPoolExecutor(1) as threads:
        heard = threads.submit(others.hear)
        others.train(plan)
        for story in heard.result(60):
            layers = [one for one in story if one.startswith("layer")]
            assert story[story.index("plan_made") :] == ["plan_made", "setup", *layers, "training", "finished"]
            assert layers == ([f"layer {site}" for site in SITES] if story[0] == "joined compute/compute" else [])
    code, stderr = second.end()
    assert code == ExitCode.DONE, stderr
    assert "Traceback" not in stderr


def test_sigterm_ends_gathering_with_130(
    settings: CoordinatorSettings,
    start_process: Callable[[CoordinatorSettings], Process],
    parties: Callable[[str], Parties],
) -> None:
    """With a party that watches, whose stream must not hold the process."""
    process = start_process(settings)
    stub = parties(await_address(settings)).site("north")
    stub.Join(site_join("north"), timeout=DEADLINE_S)
    stream = stub.Watch(coordinator_pb2.WatchRequest(), timeout=DEADLINE_S)
    assert told(next(stream)) == "joined site/north"
    code, stderr = process.end(signal.SIGTERM)
    assert code == ExitCode.INTERRUPTED, stderr
    assert "stopped before the run has ended; start again to go on" in stderr
    assert "Traceback" not in stderr


def test_sigterm_while_layers_are_built_ends_with_130(
    settings: CoordinatorSettings,
    start_process: Callable[[CoordinatorSettings], Process],
    parties: Callable[[str], Parties],
    certificates: dict[str, bytes],
) -> None:
    """The layer in work is waited for; the others are built after the next start."""
    settings = dataclasses.replace(
        settings,
        run=dataclasses.replace(settings.run, custody=Custody.ESCROW),
        morph=MorphSettings(preset="paper"),
        model=ModelSettings(width=0.125),
    )
    process = start_process(settings)
    others = parties(await_address(settings))
    for site in SITES:
        others.site(site).Join(site_join(site, height=32, width=32), timeout=DEADLINE_S)
    others.of(COMPUTE).Join(compute_join(), timeout=DEADLINE_S)
    plan = others.plan()
    for site in SITES:
        kind = coordinator_pb2.SEALED_KIND_MORPH_KEY
        info = seal_info(plan.run_id, f"site/{site}", COORDINATOR.label, kind)
        envelope = seal(certificates[COORDINATOR.label], key_of(site).seed, info)
        request = coordinator_pb2.PutSealedRequest(recipient=COORDINATOR.label, kind=kind, envelope=envelope)
        others.site(site).PutSealed(request, timeout=DEADLINE_S)
    code, stderr = process.end(signal.SIGTERM)
    assert code == ExitCode.INTERRUPTED, stderr
    assert "Traceback" not in stderr
    assert "failed" not in [line["event"] for line in log_lines(settings)]
