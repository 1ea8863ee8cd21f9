"""Fixtures for the coordinator's tests."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.memory.state_file import StateFile
from mple.plan import CoordinatorSettings
from tests.support.open_coordinator import OpenCoordinator
from tests.support.served import PartyTls
from tests.support.small_run import COMPUTE, COORDINATOR, SITES, SmallRun, settings_in, site_party


@pytest.fixture
def state_file(tmp_path: Path) -> Iterator[StateFile]:
    """An empty state file."""
    with StateFile(tmp_path) as file:
        yield file


@pytest.fixture
def start_run(tmp_path: Path) -> Iterator[Callable[..., SmallRun]]:
    """Begins runs by direct calls and closes them after the test."""
    begun: list[SmallRun] = []

    def start(settings: CoordinatorSettings | None = None, certificates: dict[str, bytes] | None = None) -> SmallRun:
        begun.append(SmallRun(settings or settings_in(tmp_path), certificates))
        return begun[-1]

    yield start
    for one in begun:
        one.close()


@pytest.fixture
def small_run(start_run: Callable[..., SmallRun]) -> SmallRun:
    """A run in `site` custody that nobody has joined."""
    return start_run()


@pytest.fixture(scope="session")
def certificates(party_tls: PartyTls) -> dict[str, bytes]:
    """Every party's certificate (DER) by its label."""
    parties = [COORDINATOR, COMPUTE, *map(site_party, SITES)]
    pems = {party.label: party_tls(party.role, party.name).certificate.read_text() for party in parties}
    return {label: ssl.PEM_cert_to_DER_cert(pem) for label, pem in pems.items()}


@pytest.fixture
def open_coordinator(
    start_run: Callable[..., SmallRun], certificates: dict[str, bytes], party_tls: PartyTls, tmp_path: Path
) -> Iterator[Callable[..., OpenCoordinator]]:
    """Opens coordinators on loopback and closes them after the test."""
    opened: list[OpenCoordinator] = []

    def begin(settings: CoordinatorSettings | None = None, streams: int = 12, **limits: Any) -> OpenCoordinator:
        opened.append(OpenCoordinator(start_run(settings, certificates), party_tls, tmp_path, streams, **limits))
        return opened[-1]

    yield begin
    for one in opened:
        one.close()
