"""Envelopes: who may leave what for whom, that the first stays, and that a wiped one is gone from the disk."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from coordinator.memory.envelopes import MOST_ENVELOPE_BYTES, Envelopes, check_envelope
from coordinator.memory.state_file import StateFile
from mple.plan import Custody, RunPlan
from mple.rpc import ErrorCode, MpleError
from mple.v1 import coordinator_pb2
from tests.support.small_run import COORDINATOR, SITES, plan_for, refused, site_party

SECRET = coordinator_pb2.SEALED_KIND_CONSORTIUM_SECRET
KEY = coordinator_pb2.SEALED_KIND_MORPH_KEY
NOTHING = coordinator_pb2.SEALED_KIND_UNSPECIFIED


def put(
    plan: RunPlan, sender: str, recipient: str, kind: coordinator_pb2.SealedKind, envelope: bytes = b"sealed"
) -> None:
    request = coordinator_pb2.PutSealedRequest(recipient=recipient, kind=kind, envelope=envelope)
    check_envelope(plan, site_party(sender), COORDINATOR.label, request)


def test_site_custody_lets_the_first_site_send_the_secret_to_the_others() -> None:
    for recipient in SITES[1:]:
        put(plan_for(), SITES[0], f"site/{recipient}", SECRET)


@pytest.mark.parametrize(
    ("sender", "recipient", "kind", "text"),
    [
        ("north", COORDINATOR.label, KEY, "only the consortium secret is sent"),
        ("north", "site/south", NOTHING, "kind 0"),
        ("south", "site/west", SECRET, "the plan's first site, north, sends"),
        ("north", "site/north", SECRET, "the secret goes to site/south, site/west"),
        ("north", COORDINATOR.label, SECRET, "recipient 'coordinator/coordinator'"),
        ("north", "site/east", SECRET, "recipient 'site/east'"),
        ("north", "", SECRET, "recipient ''"),
    ],
)
def test_site_custody_refuses_all_else(
    sender: str, recipient: str, kind: coordinator_pb2.SealedKind, text: str
) -> None:
    with refused(ErrorCode.ENVELOPE_REJECTED, text):
        put(plan_for(), sender, recipient, kind)


def test_lone_site_sends_nothing() -> None:
    with pytest.raises(MpleError, match="the secret goes to nobody"):
        put(plan_for(("north",)), "north", "site/south", SECRET)


def test_escrow_lets_each_site_send_its_key_to_the_coordinator() -> None:
    plan = plan_for(custody=Custody.ESCROW)
    for sender in SITES:
        put(plan, sender, COORDINATOR.label, KEY)


@pytest.mark.parametrize(
    ("recipient", "kind"), [("site/south", KEY), (COORDINATOR.label, SECRET), ("coordinator/other", KEY)]
)
def test_escrow_refuses_all_else(recipient: str, kind: coordinator_pb2.SealedKind) -> None:
    with refused(ErrorCode.ENVELOPE_REJECTED, "a site sends only its morph key, to coordinator/coordinator"):
        put(plan_for(custody=Custody.ESCROW), "north", recipient, kind)


@pytest.mark.parametrize("size", [0, MOST_ENVELOPE_BYTES + 1])
def test_sizes_that_can_not_be_are_refused(size: int) -> None:
    with pytest.raises(MpleError, match=f"envelope of {size} bytes"):
        put(plan_for(), "north", "site/south", SECRET, bytes(size))


def test_the_first_envelope_stays(state_file: StateFile) -> None:
    envelopes = Envelopes(state_file)
    assert envelopes.put("site/north", "site/south", SECRET, b"first")
    assert not envelopes.put("site/north", "site/south", SECRET, b"second")
    assert envelopes.put("site/north", "site/west", SECRET, b"another recipient")
    assert envelopes.counts("site/north", "site/south", SECRET, b"first")
    assert not envelopes.counts("site/north", "site/south", SECRET, b"second")
    assert [left.envelope for left in envelopes.to("site/south")] == [b"first"]
    assert envelopes.to("site/north") == []


def test_envelopes_come_by_sender_and_say_who_sent_them(state_file: StateFile) -> None:
    envelopes = Envelopes(state_file)
    for sender in ("site/west", "site/north"):
        envelopes.put(sender, COORDINATOR.label, KEY, sender.encode())
    assert envelopes.to(COORDINATOR.label) == [
        coordinator_pb2.SealedEnvelope(sender="site/north", kind=KEY, envelope=b"site/north"),
        coordinator_pb2.SealedEnvelope(sender="site/west", kind=KEY, envelope=b"site/west"),
    ]


def test_forgotten_envelopes_leave_no_byte_on_the_disk_and_still_count(state_file: StateFile, tmp_path: Path) -> None:
    """They hold morph keys, sealed to the key file that lies on the same machine."""
    envelopes = Envelopes(state_file)
    kept, wiped = secrets.token_bytes(2048), [secrets.token_bytes(size) for size in (48, 300, 4096)]
    envelopes.put(COORDINATOR.label, "site/north", SECRET, kept)
    for number, envelope in enumerate(wiped):
        envelopes.put(f"site/{number}", COORDINATOR.label, KEY, envelope)
    state_file.scrub()  # moves all into the main file, as time or a restart would
    assert all(_on_disk(tmp_path, envelope[:32]) for envelope in wiped)
    envelopes.forget(COORDINATOR.label)
    assert envelopes.to(COORDINATOR.label) == []
    assert not any(_on_disk(tmp_path, envelope[:32]) for envelope in wiped)
    assert not envelopes.put("site/0", COORDINATOR.label, KEY, b"once more")
    assert [left.envelope for left in envelopes.to("site/north")] == [kept]


def _on_disk(folder: Path, content: bytes) -> bool:
    return any(content in path.read_bytes() for path in folder.iterdir())
