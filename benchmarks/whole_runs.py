"""Whole simulated runs for benchmarks: node processes over mutual TLS, with what the ledgers can't see measured, too.

Every site dials through relays of its own, so that each byte of its links is counted below TLS, handshakes and probes
included (TCP payload; IP and TCP headers are not). Processes are watched from outside.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from benchmarks.process_watch import ProcessUse, ProcessWatch
from mple.meter.relay import CountingRelay
from mple.plan import SiteSettings, read_settings, write_settings
from mple.records.run_folder import RunFolder
from mple.report import Summary
from mple.rpc.tls import split_address
from mple.simulate.laying_out import lay_out
from mple.simulate.runner import run_nodes
from mple.simulate.settings import SimulationSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class Crossed:
    """Bytes of one site's links below TLS."""

    up: int
    down: int
    connections: int

    @property
    def total(self) -> int:
        """Both directions."""
        return self.up + self.down


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredRun:
    """A finished run and what was seen of it from outside."""

    summary: Summary
    wall_s: float
    """From laying out the folder to the end of the last process and the ledgers' balance."""
    crossed: Mapping[str, Crossed]
    """By site."""
    uses: Mapping[str, ProcessUse]
    """By node."""
    setup_up: Mapping[str, int]
    """By site: framed bytes of all that it sent before its first batch of samples."""
    feed_s: float
    """From the first sample that a site sent to the last."""


def measured_run(settings: SimulationSettings, out: Path, *, look_every_s: float = 1.0) -> MeasuredRun:
    """Run a consortium in a new folder and measure it.

    Raises:
        ValueError: The folder is not empty.
        SimulationError: A node failed.
        RuntimeError: It was interrupted.
    """
    began = time.monotonic()
    folder = lay_out(out, settings)
    with relayed(folder) as relays, ProcessWatch(_configs(folder), every_s=look_every_s) as watch:
        summary = run_nodes(folder, settings, Console(file=io.StringIO()), plain=True, tables=False)
        if summary is None:
            raise RuntimeError("the run was interrupted")
        wall_s = time.monotonic() - began
        crossed = {site: crossed_by(of_site) for site, of_site in relays.items()}
    with contextlib.closing(sqlite3.connect(folder.path / "ledger.sqlite")) as ledgers:
        return MeasuredRun(
            summary=summary,
            wall_s=wall_s,
            crossed=crossed,
            uses=watch.uses,
            setup_up={site: _setup_up(ledgers, site) for site in folder.sites},
            feed_s=_feed_s(ledgers),
        )


@contextmanager
def scratch(out: Path | None, name: str) -> Iterator[Path]:
    """A folder for runs: a given one, which is kept, or one in the current folder that is removed if all goes well."""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        yield out
        return
    folder = Path(f"runs/bench-{name}-{os.getpid()}")
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder)


def _configs(folder: RunFolder) -> dict[str, Path]:
    return {name: folder.config(name) for name in folder.nodes}


@contextmanager
def relayed(folder: RunFolder) -> Iterator[dict[str, tuple[CountingRelay, CountingRelay]]]:
    """Put two relays before each site: one to the coordinator, one to the compute node."""
    relays: dict[str, tuple[CountingRelay, CountingRelay]] = {}
    with contextlib.ExitStack() as closing:
        for site in folder.sites:
            config = folder.config(site)
            settings = read_settings(SiteSettings, config)
            pair = (
                CountingRelay(*split_address(settings.coordinator)),
                CountingRelay(*split_address(settings.compute)),
            )
            for relay in pair:
                closing.callback(relay.close)
            settings = replace(settings, coordinator=pair[0].address, compute=pair[1].address)
            config.write_text(write_settings(settings), encoding="utf-8")
            relays[site] = pair
        yield relays


def crossed_by(relays: tuple[CountingRelay, CountingRelay]) -> Crossed:
    """What a site's relays have counted so far."""
    return Crossed(
        up=sum(relay.bytes_up for relay in relays),
        down=sum(relay.bytes_down for relay in relays),
        connections=sum(relay.connections for relay in relays),
    )


def _setup_up(ledgers: sqlite3.Connection, site: str) -> int:
    (size,) = ledgers.execute(
        "WITH sent AS (SELECT * FROM messages WHERE node = ? AND direction = 'sent') "
        "SELECT COALESCE(SUM(framed_bytes), 0) FROM sent WHERE time_unix_ns < "
        "(SELECT MIN(time_unix_ns) FROM sent WHERE kind IN ('data', 'val_data', 'test_data'))",
        (f"site/{site}",),
    ).fetchone()
    return int(size)


def _feed_s(ledgers: sqlite3.Connection) -> float:
    (elapsed_ns,) = ledgers.execute(
        "SELECT MAX(time_unix_ns) - MIN(time_unix_ns) FROM messages WHERE node LIKE 'site/%' AND direction = 'sent' "
        "AND kind IN ('data', 'val_data', 'test_data')"
    ).fetchone()
    return float(elapsed_ns) / 1e9
