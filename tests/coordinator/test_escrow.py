"""Escrow custody: keys in, layers and the secret out, nothing left behind; wrong keys and restarts."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coordinator.layers.escrow import EscrowWorker
from coordinator.phases import Phase
from mple.pki import open_sealed, seal
from mple.plan import Custody, MorphSettings
from mple.plan.orders import seal_info
from mple.rpc import Role
from mple.v1 import coordinator_pb2
from tests.support.served import PartyTls
from tests.support.small_plan import key_of
from tests.support.small_run import (
    COORDINATOR,
    SITES,
    SmallRun,
    layer_bytes,
    layer_for,
    settings_in,
    site_party,
)

KEY = coordinator_pb2.SEALED_KIND_MORPH_KEY
SECRET = coordinator_pb2.SEALED_KIND_CONSORTIUM_SECRET


@pytest.fixture
def escrow_run(start_run: Callable[..., SmallRun], certificates: dict[str, bytes], tmp_path: Path) -> SmallRun:
    """A run in escrow custody that everybody has joined."""
    run = start_run(settings_in(tmp_path, custody=Custody.ESCROW), certificates)
    run.join_all()
    return run


@pytest.fixture
def coordinator_key(party_tls: PartyTls) -> Path:
    return party_tls(COORDINATOR.role, COORDINATOR.name).key


@contextlib.contextmanager
def at_work(run: SmallRun, private_key: Path) -> Iterator[EscrowWorker]:
    """The coordinator of a coordinator's process."""
    coordinator = EscrowWorker(run.run, run.releases, private_key)
    coordinator.resume()
    try:
        yield coordinator
        assert coordinator.fault is None
    finally:
        coordinator.stop()


def sealed(run: SmallRun, site: str, seed: bytes, run_id: str | None = None) -> coordinator_pb2.PutSealedRequest:
    info = seal_info(run_id or run.run.run_id, f"site/{site}", COORDINATOR.label, KEY)
    return coordinator_pb2.PutSealedRequest(
        recipient=COORDINATOR.label, kind=KEY, envelope=seal(run.certificates[COORDINATOR.label], seed, info)
    )


def put_keys(run: SmallRun, sites: tuple[str, ...] = SITES) -> None:
    for site in sites:
        run.run.put_sealed(site_party(site), sealed(run, site, key_of(site).seed))


def wait_until(run: SmallRun, there: Callable[[], bool]) -> None:
    with run.file.changed:
        assert run.file.changed.wait_for(there, 20)


def secret_of(run: SmallRun, site: str, party_tls: PartyTls) -> bytes:
    (left,) = run.run.envelopes.to(f"site/{site}")
    assert (left.sender, left.kind) == (COORDINATOR.label, SECRET)
    info = seal_info(run.run.run_id, COORDINATOR.label, f"site/{site}", SECRET)
    return open_sealed(party_tls(Role.SITE, site).key, left.envelope, info)


def keys_are_gone(run: SmallRun) -> bool:
    return run.run.envelopes.to(COORDINATOR.label) == []


def test_layers_are_those_that_the_sites_would_have_built(
    escrow_run: SmallRun, coordinator_key: Path, party_tls: PartyTls
) -> None:
    put_keys(escrow_run)
    with at_work(escrow_run, coordinator_key):
        wait_until(escrow_run, lambda: keys_are_gone(escrow_run))
    run = escrow_run.run
    assert run.state().all_released
    assert escrow_run.story()[-3:] == [f"layer {site}" for site in SITES]
    (secret,) = {secret_of(escrow_run, site, party_tls) for site in SITES}
    for site in SITES:
        stored = run.layers.of_key(site, 1)
        assert stored is not None
        built = layer_for(run.plan, site, secret=secret)
        assert run.layers.path(stored.header.sha256).read_bytes() == layer_bytes(built, escrow_run.settings.state)


def test_coordinator_waits_for_the_last_key(escrow_run: SmallRun, coordinator_key: Path) -> None:
    with at_work(escrow_run, coordinator_key):
        put_keys(escrow_run, SITES[:2])
        assert not escrow_run.run.state().layers_due
        assert len(escrow_run.run.envelopes.to(COORDINATOR.label)) == 2
        put_keys(escrow_run, SITES[2:])
        wait_until(escrow_run, lambda: escrow_run.run.state().all_released)


def test_no_key_is_on_the_disk_in_plain_and_no_envelope_in_the_end(escrow_run: SmallRun, coordinator_key: Path) -> None:
    put_keys(escrow_run)
    envelopes = [left.envelope for left in escrow_run.run.envelopes.to(COORDINATOR.label)]
    with at_work(escrow_run, coordinator_key):
        wait_until(escrow_run, lambda: keys_are_gone(escrow_run))
    content = b"".join(path.read_bytes() for path in escrow_run.settings.state.rglob("*") if path.is_file())
    for secret in (*envelopes, *(key_of(site).seed for site in SITES)):
        assert secret not in content


def test_sites_that_start_again_change_nothing(escrow_run: SmallRun, coordinator_key: Path) -> None:
    put_keys(escrow_run)
    with at_work(escrow_run, coordinator_key):
        wait_until(escrow_run, lambda: keys_are_gone(escrow_run))
        put_keys(escrow_run)
        assert keys_are_gone(escrow_run)


def test_restart_builds_what_is_missing_under_the_same_secret(
    escrow_run: SmallRun, coordinator_key: Path, party_tls: PartyTls
) -> None:
    put_keys(escrow_run)
    coordinator = EscrowWorker(escrow_run.run, escrow_run.releases, coordinator_key)
    secret = coordinator._consortium_secret()
    for site in SITES:
        coordinator._seal_secret(escrow_run.run.plan, site, secret)
    coordinator._build_layer(escrow_run.run.plan, escrow_run.run.stem, SITES[0], secret)
    story = escrow_run.story()
    assert story[-1] == f"layer {SITES[0]}"
    escrow_run.restart()
    with at_work(escrow_run, coordinator_key):
        wait_until(escrow_run, lambda: keys_are_gone(escrow_run))
    assert escrow_run.story() == [*story, *(f"layer {site}" for site in SITES[1:])]
    assert {secret_of(escrow_run, site, party_tls) for site in SITES} == {secret}


def test_restart_after_the_last_layer_still_wipes_the_keys(escrow_run: SmallRun, coordinator_key: Path) -> None:
    put_keys(escrow_run)
    EscrowWorker(escrow_run.run, escrow_run.releases, coordinator_key)._build_layers()
    assert escrow_run.run.state().all_released
    assert not keys_are_gone(escrow_run)
    escrow_run.restart()
    with at_work(escrow_run, coordinator_key):
        wait_until(escrow_run, lambda: keys_are_gone(escrow_run))


def test_run_that_fails_while_keys_are_awaited_wipes_them(escrow_run: SmallRun, coordinator_key: Path) -> None:
    put_keys(escrow_run, SITES[:1])
    with at_work(escrow_run, coordinator_key):
        escrow_run.run.fail("site/west", "fire")
        wait_until(escrow_run, lambda: keys_are_gone(escrow_run))
    assert escrow_run.story()[-2:] == ["fault site/west", "failed"]


@pytest.mark.parametrize(
    ("seed", "run_id", "text"),
    [
        (bytes(32), None, "UNKNOWN_KEY_REF.*site/west sealed another key than the one it joined with"),
        (bytes(31), None, "ENVELOPE_REJECTED.*the morph key of site/west: a morph key has 32 bytes"),
        (key_of("west").seed, "another", "ENVELOPE_REJECTED.*the morph key of site/west: the envelope does not open"),
    ],
)
def test_key_that_can_not_be_used_ends_the_run_before_any_layer(
    escrow_run: SmallRun, coordinator_key: Path, seed: bytes, run_id: str | None, text: str
) -> None:
    put_keys(escrow_run, SITES[:2])
    escrow_run.run.put_sealed(site_party("west"), sealed(escrow_run, "west", seed, run_id))
    with at_work(escrow_run, coordinator_key):
        wait_until(escrow_run, lambda: keys_are_gone(escrow_run))
    state = escrow_run.run.state()
    assert state.phase is Phase.FAILED
    assert state.released == frozenset()
    assert re.search(text, state.reason)


def test_layer_that_can_not_be_built_ends_the_run(escrow_run: SmallRun, coordinator_key: Path) -> None:
    put_keys(escrow_run)
    escrow_run.run.layers.building(SITES[0]).mkdir()
    with at_work(escrow_run, coordinator_key):
        wait_until(escrow_run, lambda: keys_are_gone(escrow_run))
    state = escrow_run.run.state()
    assert state.phase is Phase.FAILED
    assert "building the layers failed: " in state.reason


def test_coordinator_that_can_not_even_end_the_run_says_so(escrow_run: SmallRun, coordinator_key: Path) -> None:
    """Nothing can be written: without this the run would wait for its layers for ever."""
    put_keys(escrow_run)
    escrow_run.file.rows("PRAGMA query_only=ON")
    coordinator = EscrowWorker(escrow_run.run, escrow_run.releases, coordinator_key)
    coordinator.resume()
    wait_until(escrow_run, lambda: coordinator.fault is not None)
    assert "readonly database" in str(coordinator.fault)


def test_stopped_coordinator_builds_no_further_layer(escrow_run: SmallRun, coordinator_key: Path) -> None:
    with at_work(escrow_run, coordinator_key) as coordinator:
        coordinator.stop()
        put_keys(escrow_run)
        assert escrow_run.run.state().layers_due
    assert escrow_run.story()[-1] == "setup"


def test_uniform_cores_are_built_too(
    start_run: Callable[..., SmallRun], certificates: dict[str, bytes], coordinator_key: Path, tmp_path: Path
) -> None:
    settings = settings_in(tmp_path, custody=Custody.ESCROW, morph=MorphSettings(preset="mole"))
    run = start_run(settings, certificates)
    run.join_all()
    put_keys(run)
    with at_work(run, coordinator_key):
        wait_until(run, lambda: keys_are_gone(run))
    assert run.run.state().all_released
