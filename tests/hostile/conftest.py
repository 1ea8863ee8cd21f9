"""Parties under attack, behind real servers with mutual TLS, and the audit trail that attacks must show in."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mple.audit import FILE_NAME, close_audit, open_audit, read_entries
from mple.plan import CoordinatorSettings
from tests.fuzz.compute_target import ComputeTarget
from tests.fuzz.site_target import SiteTarget
from tests.support.open_coordinator import OpenCoordinator
from tests.support.raw_calls import Refusals
from tests.support.served import PartyTls
from tests.support.small_run import SmallRun, settings_in


@pytest.fixture
def audited(tmp_path: Path) -> Iterator[Refusals]:
    """Who was refused with which result, from this test's own audit trail."""
    folder = tmp_path / "audit"
    folder.mkdir()
    open_audit(folder, "test/node")

    def refused() -> list[tuple[str, str]]:
        entries = read_entries(folder / FILE_NAME)
        return [(entry.who, entry.result) for entry in entries if entry.what == "refused"]

    yield refused
    close_audit()


@pytest.fixture
def coordinator(tmp_path: Path, party_tls: PartyTls) -> Iterator[Callable[..., OpenCoordinator]]:
    """Opens coordinators as they run: eight calls for each caller."""
    with contextlib.ExitStack() as opened:

        def begin(settings: CoordinatorSettings | None = None, **limits: Any) -> OpenCoordinator:
            run = SmallRun(settings or settings_in(tmp_path))
            opened.callback(run.close)
            one = OpenCoordinator(run, party_tls, tmp_path, **{"streams": 24, "per_caller": 8, **limits})
            opened.callback(one.close)
            return one

        yield begin


@pytest.fixture
def node(tmp_path: Path, party_tls: PartyTls) -> Iterator[Callable[..., ComputeTarget]]:
    """Opens compute nodes that train."""
    with contextlib.ExitStack() as opened:

        def begin(**how: Any) -> ComputeTarget:
            one = ComputeTarget(tmp_path / "compute", "training", party_tls, **how)
            opened.callback(one.close)
            return one

        yield begin


@pytest.fixture
def site(tmp_path: Path, party_tls: PartyTls) -> Iterator[SiteTarget]:
    """A site that feeds a compute node which answers as the test says."""
    with contextlib.closing(SiteTarget(tmp_path / "site", party_tls)) as one:
        yield one
