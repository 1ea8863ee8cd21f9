"""A coordinator that is killed with a thousand parties watching and started again: when is each of them let in again?

The coordinator is its own command. The parties are a site's channel, client, retries and events by the product's code,
without data, in some processes of many threads.

    python -m benchmarks.reconnecting FOLDER FIRST LAST   (one of those processes)
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.process_watch import ProcessWatch
from mple.meter import Ledger
from mple.node.coordinator_client import CoordinatorClient
from mple.node.retry import RetryPolicy, StoppedError
from mple.node.stop import Stop
from mple.pki import throwaway
from mple.plan import (
    CoordinatorSettings,
    ModelSettings,
    MorphSettings,
    RunSettings,
    TrainingSettings,
    WireSettings,
    write_settings,
)
from mple.plan.run_plan import PROTOCOL_VERSION
from mple.rpc import Party, Role, TlsFiles, open_channel
from mple.simulate.children import command, tied
from mple.v1 import common_pb2, coordinator_pb2

_CONSORTIUM = "reconnecting"
_COORDINATOR = Party(_CONSORTIUM, Role.COORDINATOR, "coordinator")
_PROCESSES = 4
_DOWN_S = 20.0
"""Longer than it takes to start: time in which pauses between attempts grow."""
_BUDGET_S, _LONGEST_S = 600.0, 300.0
_LET_IN = "let_in.{}.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reconnection:
    """What was seen of it."""

    parties: int
    down_s: float
    """From the kill to the moment when the coordinator listened again."""
    back_s: list[float]
    """From that moment until each party was let in, ascending."""
    last_s: float
    most_at_once: int
    """Parties that were let in within one tenth of a second."""
    coordinator_peak_rss_mib: float
    """Of both its processes."""


def reconnection(folder: Path, parties: int) -> Reconnection:
    """Kill a coordinator that so many parties watch, and start it again.

    Raises RuntimeError: not all were let in, before or after.
    """
    settings = _lay_out(folder, parties)
    bounds = [parties * place // _PROCESSES for place in range(_PROCESSES + 1)]
    spans = list(itertools.pairwise(bounds))
    config = folder / "coordinator.toml"
    with ProcessWatch({"coordinator": config}, pss=False) as watch:
        with _coordinator(folder) as first:
            _listening(settings, starts=1)
            with _parties(folder, spans):
                _until(lambda: len(_let_in(folder, after_s=0.0)) == parties, "were let in at first")
                first.kill()
                first.wait()
                killed_s = time.time()
                time.sleep(_DOWN_S)
                with _coordinator(folder):
                    listened_s = _listening(settings, starts=2)
                    _until(lambda: len(_let_in(folder, after_s=listened_s)) == parties, "were let in again")
                    back_s = sorted(one - listened_s for one in _let_in(folder, after_s=listened_s).values())
        peak_mib = watch.uses["coordinator"].peak_rss_mib
    return Reconnection(
        parties=parties,
        down_s=round(listened_s - killed_s, 2),
        back_s=[round(one, 3) for one in back_s],
        last_s=round(back_s[-1], 2),
        most_at_once=max(Counter(int(10 * one) for one in back_s).values()),
        coordinator_peak_rss_mib=peak_mib,
    )


def _lay_out(folder: Path, parties: int) -> CoordinatorSettings:
    """Addresses, certificates and a configuration."""
    folder.mkdir(parents=True)
    sites = _sites(parties)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    everybody = [_COORDINATOR, *sites]
    throwaway(folder / "authority", everybody, ["127.0.0.1"], [folder / "tls" / party.name for party in everybody])
    settings = CoordinatorSettings(
        listen=address,
        state=(folder / "state").resolve(),
        tls=(folder / "tls" / _COORDINATOR.name).resolve(),
        run=RunSettings(sites=tuple(site.name for site in sites)),
        morph=MorphSettings(),
        wire=WireSettings(),
        model=ModelSettings(width=0.125),
        training=TrainingSettings(),
    )
    (folder / "coordinator.toml").write_text(write_settings(settings), encoding="utf-8")
    (folder / "address").write_text(address)
    return settings


def _sites(count: int) -> list[Party]:
    return [Party(_CONSORTIUM, Role.SITE, f"site-{number:04}") for number in range(1, count + 1)]


@contextmanager
def _coordinator(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    arguments = tied([*command("mple-coordinator"), "serve", str(folder / "coordinator.toml")])
    with (folder / "coordinator.txt").open("ab") as log:
        process = subprocess.Popen(arguments, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@contextmanager
def _parties(folder: Path, spans: list[tuple[int, int]]) -> Iterator[None]:
    arguments = [sys.executable, "-m", "benchmarks.reconnecting", str(folder)]
    with (folder / "parties.txt").open("ab") as log:
        children = [
            subprocess.Popen(tied([*arguments, str(first), str(last)]), stdout=log, stderr=log, env=environment())
            for first, last in spans
        ]
        try:
            yield
        finally:
            for child in children:
                child.kill()
                child.wait()


def environment() -> dict[str, str]:
    """A child that is tied is started without the folders that this process imports from."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])}


def _listening(settings: CoordinatorSettings, *, starts: int) -> float:
    """When the coordinator has said for the so-manieth time that it listens, in seconds of this machine's clock."""
    path = settings.state / "log.jsonl"

    def said() -> list[dict[str, Any]]:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [one for one in map(json.loads, lines) if one["event"] == "listening"]

    _until(lambda: len(said()) >= starts, "coordinator listened")
    return time.time()


def _let_in(folder: Path, *, after_s: float) -> dict[str, float]:
    """When each party was first let in behind a moment."""
    first: dict[str, float] = {}
    for path in folder.glob(_LET_IN.format("*")):
        for text in path.read_text(encoding="utf-8").splitlines():
            name, moment_s = json.loads(text)
            if moment_s >= after_s:
                first.setdefault(name, moment_s)
    return first


def _until(holds: Callable[[], bool], what: str) -> None:
    give_up_at = time.monotonic() + _LONGEST_S
    while not holds():
        if time.monotonic() > give_up_at:
            raise RuntimeError(f"not all {what} within {_LONGEST_S:g} s")
        time.sleep(0.02 if what.startswith("coordinator") else 0.5)


def watch_events(folder: Path, first: int, last: int) -> None:
    """Be some of the parties, until killed: join, and follow the run's events across broken links."""
    address, stop = (folder / "address").read_text(), Stop()
    known = len(list((folder / "tls").iterdir())) - 1
    lock = threading.Lock()
    with (folder / _LET_IN.format(first)).open("a", encoding="utf-8") as out:

        def note(party: Party) -> None:
            with lock:
                out.write(json.dumps([party.name, time.time()]) + "\n")
                out.flush()

        def live(party: Party) -> None:
            tls = TlsFiles.in_directory(folder / "tls" / party.name)
            with (
                Ledger(folder / "tls" / party.name / "ledger.sqlite", party.label) as ledger,
                open_channel(address, tls, _COORDINATOR, ledger) as channel,
            ):
                client = CoordinatorClient(channel, RetryPolicy.to(address, tls, stop, _BUDGET_S))
                client.join(_join(party))
                watch = client.stub.Watch

                def noted(request: coordinator_pb2.WatchRequest) -> Any:
                    call = watch(request)
                    call.initial_metadata()  # with them a call is let in
                    if call.is_active():
                        note(party)
                    return call

                client.stub.Watch = noted  # type: ignore[method-assign]
                for _ in client.events():
                    pass

        threads = [threading.Thread(target=live, args=(party,)) for party in _sites(known)[first:last]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _join(party: Party) -> coordinator_pb2.JoinRequest:
    profile = coordinator_pb2.SiteProfile(
        channels=3,
        height=32,
        width=32,
        classes=[f"class {number}" for number in range(10)],
        train_images=20,
        test_images=4,
        patients="unknown",
        task="classes",
        key_ref=common_pb2.KeyRef(site=party.name, epoch=1, fingerprint=bytes(32)),
    )
    return coordinator_pb2.JoinRequest(protocol_version=PROTOCOL_VERSION, site=profile)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        watch_events(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    except StoppedError:
        sys.exit(1)
