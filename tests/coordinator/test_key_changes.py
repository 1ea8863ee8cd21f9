"""Rotation and revocation at the coordinator: the next key's layer is reviewed and released, the old one is deleted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.key_requests import report_key_erased, report_key_stored, revoke_key, rotate_key
from mple.audit import FILE_NAME, close_audit, open_audit, read_entries
from mple.morph import MorphKey
from mple.plan import Custody
from mple.rpc import ErrorCode
from mple.v1 import common_pb2, coordinator_pb2
from tests.support.open_coordinator import DEADLINE_S, OpenCoordinator, refused_call
from tests.support.small_run import (
    COMPUTE,
    SmallRun,
    chunks_of,
    layer_bytes,
    layer_for,
    refused,
    settings_in,
    site_party,
)

NEW_KEY = MorphKey(hashlib.sha256(b"north's next key").digest())
NEXT = common_pb2.KeyRef(site="north", epoch=2, fingerprint=NEW_KEY.fingerprint())


@pytest.fixture
def training(small_run: SmallRun) -> SmallRun:
    """A run whose compute node holds all layers."""
    small_run.join_all()
    small_run.upload_all()
    small_run.stored()
    return small_run


def planned(run: SmallRun, site: str = "north") -> common_pb2.KeyRef:
    mine = run.run.plan.site(site)
    return common_pb2.KeyRef(site=site, epoch=mine.key_epoch, fingerprint=bytes.fromhex(mine.key_fingerprint))


def rotate(run: SmallRun, key: common_pb2.KeyRef = NEXT, site: str = "north") -> None:
    request = coordinator_pb2.RotateKeyRequest(key_ref=key, plan_sha256=run.run.plan.sha256())
    rotate_key(run.run, site_party(site), request)


def revoke(run: SmallRun, key: common_pb2.KeyRef, site: str = "north") -> None:
    request = coordinator_pb2.RevokeKeyRequest(key_ref=key, plan_sha256=run.run.plan.sha256())
    revoke_key(run.run, site_party(site), request)


def next_layer(run: SmallRun) -> bytes:
    return layer_bytes(layer_for(run.run.plan, "north", stem=run.run.stem, key=NEW_KEY), run.settings.state)


def begin_request(run: SmallRun, data: bytes, key: common_pb2.KeyRef = NEXT) -> coordinator_pb2.BeginLayerRequest:
    header = coordinator_pb2.LayerHeader(key_ref=key, total_bytes=len(data), sha256=hashlib.sha256(data).digest())
    return coordinator_pb2.BeginLayerRequest(header=header, plan_sha256=run.run.plan.sha256())


def bring(run: SmallRun, data: bytes) -> None:
    at = run.releases.begin(site_party("north"), begin_request(run, data))
    run.releases.upload(site_party("north"), chunks_of(data, at))


def stored(run: SmallRun) -> None:
    report_key_stored(run.run, coordinator_pb2.KeyStored(key_ref=NEXT))


def erased(run: SmallRun, key: common_pb2.KeyRef) -> None:
    report_key_erased(run.run, coordinator_pb2.KeyErased(key_ref=key, samples=13, layer_bytes=99))


def key_story(run: SmallRun) -> list[str]:
    return [kind for kind in run.story() if kind.startswith("key_")]


def files(run: SmallRun) -> set[str]:
    return {path.stem for path in (run.settings.state / "layers").iterdir()}


@pytest.mark.parametrize("restart_after", [None, "rotate", "begin", "upload", "stored", "revoke"])
def test_a_rotation_and_a_revocation_whenever_the_coordinator_is_started_again(
    training: SmallRun, restart_after: str | None
) -> None:
    def step(name: str, act: Callable[[], object]) -> None:
        act()
        if name == restart_after:
            training.restart()
            act()  # the party that got no answer repeats itself

    old, data = planned(training), next_layer(training)
    old_digest = training.run.layers.of_key("north", 1).header.sha256.hex()  # type: ignore[union-attr]
    step("rotate", lambda: rotate(training))
    step("begin", lambda: training.releases.begin(site_party("north"), begin_request(training, data)))
    step("upload", lambda: bring(training, data))
    step("stored", lambda: stored(training))
    assert {old_digest, hashlib.sha256(data).hexdigest()} <= files(training)
    step("revoke", lambda: revoke(training, old))
    assert old_digest not in files(training)
    erased(training, old)
    erased(training, old)
    assert key_story(training) == ["key_rotated", "key_ready", "key_revoked", "key_erased"]
    rotated = next(event for event in training.events() if event.WhichOneof("event") == "key_rotated").key_rotated
    assert (rotated.header.key_ref, rotated.header.sha256) == (NEXT, hashlib.sha256(data).digest())
    with refused(ErrorCode.UNKNOWN_KEY_REF, "its key may be revoked"):
        next(training.releases.download(coordinator_pb2.DownloadLayerRequest(sha256=bytes.fromhex(old_digest))))
    with refused(ErrorCode.UNKNOWN_KEY_REF, "it has rotated to none such"):
        training.releases.begin(site_party("north"), begin_request(training, data, old))


def test_the_trail_tells_of_it(training: SmallRun, tmp_path: Path) -> None:
    open_audit(tmp_path, "coordinator/coordinator")
    try:
        rotate(training)
        bring(training, next_layer(training))
        stored(training)
        revoke(training, planned(training))
        erased(training, planned(training))
    finally:
        close_audit()
    told = [(entry.who, entry.what, entry.facts) for entry in read_entries(tmp_path / FILE_NAME)]
    assert [(who, what) for who, what, _ in told] == [
        ("site/north", "key_rotated"), ("site/north", "key_revoked"), ("compute/compute", "key_erased"),
    ]  # fmt: skip
    assert (told[-1][2]["samples"], told[-1][2]["layer_bytes"], told[-1][2]["epoch"]) == (13, 99, 1)


def test_the_next_keys_layer_is_reviewed_like_the_first(training: SmallRun) -> None:
    rotate(training)
    wrong = layer_for(training.run.plan, "north", stem=training.run.stem, key=NEW_KEY, secret=bytes(32))
    with refused(ErrorCode.LAYER_REJECTED, "another stem, channel order or scheme"):
        bring(training, layer_bytes(wrong, training.settings.state))
    assert key_story(training) == []
    bring(training, next_layer(training))
    assert key_story(training) == ["key_rotated"]


def test_review_goes_on_when_the_layer_that_was_released_first_is_gone(training: SmallRun) -> None:
    rotate(training)
    bring(training, next_layer(training))
    stored(training)
    revoke(training, planned(training))
    training.restart()
    south = MorphKey(bytes(range(32)))
    key = common_pb2.KeyRef(site="south", epoch=2, fingerprint=south.fingerprint())
    rotate(training, key, "south")
    layer = layer_for(training.run.plan, "south", stem=training.run.stem, key=south, secret=bytes(32))
    data = layer_bytes(layer, training.settings.state)
    at = training.releases.begin(site_party("south"), begin_request(training, data, key))
    with refused(ErrorCode.LAYER_REJECTED, "deviates from that of site south"):
        training.releases.upload(site_party("south"), chunks_of(data, at))


def test_a_site_changes_its_own_keys_only(training: SmallRun) -> None:
    with refused(ErrorCode.UNKNOWN_KEY_REF, "site/south names a key of site 'north'"):
        rotate(training, NEXT, "south")
    with refused(ErrorCode.UNKNOWN_KEY_REF, "site/south names a key of site 'north'"):
        revoke(training, planned(training), "south")
    for strange in (
        common_pb2.KeyRef(site="north", epoch=0, fingerprint=bytes(32)),
        common_pb2.KeyRef(site="north", epoch=2, fingerprint=bytes(31)),
    ):
        with refused(ErrorCode.UNKNOWN_KEY_REF, "needs 1 or more, and 32"):
            rotate(training, strange)
    request = coordinator_pb2.RotateKeyRequest(key_ref=NEXT, plan_sha256=bytes(32))
    with refused(ErrorCode.PLAN_HASH_MISMATCH, "follows 0000"):
        rotate_key(training.run, site_party("north"), request)


def test_keys_do_not_change_before_training_and_rotate_no_more_after_it(small_run: SmallRun) -> None:
    small_run.join_all()
    with refused(ErrorCode.KEY_CHANGE_REFUSED, "the run is setup; keys change once it trains"):
        rotate(small_run)
    small_run.upload_all()
    small_run.stored()
    small_run.trained()
    with refused(ErrorCode.KEY_CHANGE_REFUSED, "the next run takes the new one"):
        rotate(small_run)
    revoke(small_run, planned(small_run))
    assert key_story(small_run) == ["key_revoked"], "after the run a site may withdraw its only key"


def test_in_escrow_custody_keys_stay(start_run: Callable[..., SmallRun], tmp_path: Path) -> None:
    run = start_run(settings_in(tmp_path, custody=Custody.ESCROW))
    run.join_all()
    with refused(ErrorCode.KEY_CHANGE_REFUSED, "keys change once it trains"):
        rotate(run)


def test_over_the_wire_each_role_has_its_calls(open_coordinator: Callable[..., OpenCoordinator]) -> None:
    coordinator = open_coordinator()
    run = coordinator.run
    run.join_all()
    run.upload_all()
    run.stored()
    north, compute = coordinator.stub(site_party("north")), coordinator.stub(COMPUTE)
    rotation = coordinator_pb2.RotateKeyRequest(key_ref=NEXT, plan_sha256=run.run.plan.sha256())
    north.RotateKey(rotation, timeout=DEADLINE_S)
    bring(run, next_layer(run))
    report = coordinator_pb2.ReportRequest(key_stored=coordinator_pb2.KeyStored(key_ref=NEXT))
    with refused_call(ErrorCode.ROLE_NOT_ALLOWED, "site/north reports key_stored"):
        north.Report(report, timeout=DEADLINE_S)
    compute.Report(report, timeout=DEADLINE_S)
    revocation = coordinator_pb2.RevokeKeyRequest(key_ref=planned(run), plan_sha256=run.run.plan.sha256())
    with refused_call(ErrorCode.ROLE_NOT_ALLOWED):
        compute.RevokeKey(revocation, timeout=DEADLINE_S)
    with refused_call(ErrorCode.ROLE_NOT_ALLOWED):
        compute.RotateKey(rotation, timeout=DEADLINE_S)
    north.RevokeKey(revocation, timeout=DEADLINE_S)
    gone = coordinator_pb2.KeyErased(key_ref=planned(run), samples=3, layer_bytes=4)
    compute.Report(coordinator_pb2.ReportRequest(key_erased=gone), timeout=DEADLINE_S)
    assert key_story(run) == ["key_rotated", "key_ready", "key_revoked", "key_erased"]
    assert run.events()[-1].key_erased == gone
