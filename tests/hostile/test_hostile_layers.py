"""Layers and uploads that lie, stall or are torn: refused and deleted, and the site's honest layer may follow."""

from __future__ import annotations

import hashlib
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mple.node.coordinator_client import CoordinatorClient
from mple.node.retry import RetryPolicy
from mple.node.stop import Stop
from mple.plan.key_refs import key_ref
from mple.rpc import ErrorCode, Role
from mple.v1 import coordinator_pb2
from provider_node.keys.layer_upload import bring_layer
from provider_node.keys.run_keys import RunKeys
from tests.fuzz.seeds import layer_with
from tests.support.open_coordinator import DEADLINE_S, OpenCoordinator, honest_layer, join_all, refused_call, upload
from tests.support.raw_calls import (
    COORDINATOR,
    Refusals,
    assert_honest_work_goes_on,
    assert_refused,
    call,
    channel_of,
    never,
)
from tests.support.small_plan import key_of
from tests.support.small_run import SECRET, begin_of, chunks_of, site_party

pb = coordinator_pb2
NORTH = site_party("north")
Coordinator = Callable[..., OpenCoordinator]
E = ErrorCode
NAN, INF, HUGE = float("nan"), float("inf"), 2**64 - 1


def lie(kind: str, layer: bytes) -> bytes:
    """A layer file of the right size whose own header lies."""
    size = struct.unpack("<Q", layer[:8])[0]
    header, body = layer[8 : 8 + size], layer[8 + size :]
    changed = {
        "a header of 2^63 bytes": struct.pack("<Q", 2**63) + layer[8:],
        "a header of no bytes": struct.pack("<Q", 0) + layer[8:],
        "a header beyond the file": struct.pack("<Q", len(layer)) + layer[8:],
        "a shape of 10^18 values": layer[:8] + header.replace(b'"shape":[64', b'"shape":[99') + body,
        "another type": layer[:8] + header.replace(b'"F16"', b'"I16"') + body,
        "a type that nobody has": layer[:8] + header.replace(b'"F16"', b'"F4" ') + body,
        "values that are no numbers": layer[:-2] + struct.pack("<e", NAN),
        "infinite values": layer[:-2] + struct.pack("<e", INF),
        "nothing but zeros": layer[: 8 + size] + bytes(len(body)),
        "rubbish": bytes(len(layer)),
    }[kind]
    assert len(changed) == len(layer) and changed != layer
    return changed


@pytest.mark.parametrize(
    "kind",
    [
        "a header of 2^63 bytes",
        "a header of no bytes",
        "a header beyond the file",
        "a shape of 10^18 values",
        "another type",
        "a type that nobody has",
        "values that are no numbers",
        "infinite values",
        "nothing but zeros",
        "rubbish",
    ],
)
def test_a_layer_file_that_lies_is_refused_and_deleted(
    coordinator: Coordinator, audited: Refusals, tmp_path: Path, kind: str
) -> None:
    here = coordinator()
    plan = join_all(here)
    honest = honest_layer(plan, "north", tmp_path, SECRET)
    content = lie(kind, honest)
    announced, chunks = layer_with(content, plan)
    with channel_of(here, NORTH) as channel:
        begun = call(channel, COORDINATOR + "BeginLayer", announced.SerializeToString())
        assert begun.status == "OK"
        outcome = call(channel, COORDINATOR + "UploadLayer", *(part.SerializeToString() for part in chunks))
    assert_refused(outcome, E.LAYER_REJECTED, "site/north", audited)
    assert not here.run.run.layers.path(hashlib.sha256(content).digest()).exists()
    upload(here.stub(NORTH), plan, "north", honest)
    assert_honest_work_goes_on(here, plan, tmp_path)


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([], E.STREAM_TRUNCATED),
        ([{"data": b"x" * 1000}], E.STREAM_TRUNCATED),
        ([{"data": b""}], E.MESSAGE_MALFORMED),
        ([{"data": bytes(512 * 1024 + 1)}], E.MESSAGE_MALFORMED),
        ([{"data": b"x", "offset": HUGE}], E.FILE_OFFSET),
        ([{"data": b"x", "final": True}], E.STREAM_TRUNCATED),
        ([{"data": bytes(200_000)}, {"data": bytes(200_000), "offset": 200_000}], E.MESSAGE_MALFORMED),
    ],
    ids=["nothing", "no end", "an empty chunk", "a large chunk", "a far offset", "an early end", "beyond its size"],
)
def test_an_upload_that_breaks_the_rules_is_refused(
    coordinator: Coordinator, audited: Refusals, tmp_path: Path, messages: list[dict[str, object]], code: ErrorCode
) -> None:
    here = coordinator()
    plan = join_all(here)
    layer = honest_layer(plan, "north", tmp_path, SECRET)
    here.stub(NORTH).BeginLayer(begin_of(plan, "north", layer), timeout=DEADLINE_S)
    sha256 = hashlib.sha256(layer).digest()
    made = [pb.UploadLayerRequest(sha256=sha256, **fields).SerializeToString() for fields in messages]  # type: ignore[arg-type]
    with channel_of(here, NORTH) as channel:
        outcome = call(channel, COORDINATOR + "UploadLayer", *made)
    assert_refused(outcome, code, "site/north", audited)
    assert_honest_work_goes_on(here, plan, tmp_path)


def test_a_message_after_the_last_chunk_is_refused(coordinator: Coordinator, audited: Refusals, tmp_path: Path) -> None:
    here = coordinator()
    plan = join_all(here)
    layer = honest_layer(plan, "north", tmp_path, SECRET)
    here.stub(NORTH).BeginLayer(begin_of(plan, "north", layer), timeout=DEADLINE_S)
    messages = [chunk.SerializeToString() for chunk in chunks_of(layer)]
    with channel_of(here, NORTH) as channel:
        outcome = call(channel, COORDINATOR + "UploadLayer", *messages, messages[-1])
    assert_refused(outcome, E.MESSAGE_MALFORMED, "site/north", audited)
    assert_honest_work_goes_on(here, plan, tmp_path)


def test_an_upload_that_falls_silent_is_ended_and_keeps_what_came(
    coordinator: Coordinator, audited: Refusals, tmp_path: Path
) -> None:
    here = coordinator(idle_s=0.3)
    plan = join_all(here)
    layer = honest_layer(plan, "north", tmp_path, SECRET)
    here.stub(NORTH).BeginLayer(begin_of(plan, "north", layer), timeout=DEADLINE_S)
    over, first = threading.Event(), next(chunks_of(layer, size=50_000)).SerializeToString()
    with channel_of(here, NORTH) as channel:
        silent = channel.stream_stream(COORDINATOR + "UploadLayer")(never(over, [first]), timeout=DEADLINE_S)
        with refused_call(E.STREAM_TRUNCATED, "no message came for 0.3 s"):
            next(silent)
        over.set()
    assert ("site/north", E.STREAM_TRUNCATED) in audited()
    begun = here.stub(NORTH).BeginLayer(begin_of(plan, "north", layer), timeout=DEADLINE_S)
    assert begun.resume_offset == 50_000
    upload(here.stub(NORTH), plan, "north", layer)
    assert_honest_work_goes_on(here, plan, tmp_path)


def test_a_torn_part_is_uploaded_anew_by_the_site(coordinator: Coordinator, tmp_path: Path) -> None:
    """As a power cut leaves it: of the right length, with bytes that were never written."""
    here = coordinator()
    plan = join_all(here)
    layer = honest_layer(plan, "north", tmp_path, SECRET)
    stub = here.stub(NORTH)
    stub.BeginLayer(begin_of(plan, "north", layer), timeout=DEADLINE_S)
    here.run.run.layers.path(hashlib.sha256(layer).digest()).with_suffix(".part").write_bytes(bytes(100_000))
    tls = here.party_tls(Role.SITE, "north")
    line = CoordinatorClient(here.channel(NORTH), RetryPolicy.to(here.rpc.address, tls, Stop(), 10.0))
    state = tmp_path / "north-state"
    state.mkdir()
    (state / f"layer-{plan.run_id}.safetensors").write_bytes(layer)
    keys = RunKeys(state)
    keys.begin(plan.run_id, 1, key_of("north").fingerprint().hex())
    keys.note_built(1, hashlib.sha256(layer).digest())
    bring_layer(line, plan, key_of("north"), key_ref(plan, "north"), SECRET, keys)
    assert here.run.story()[-1] == "layer north"


def test_what_no_field_holds_is_not_passed_on(coordinator: Coordinator, tmp_path: Path) -> None:
    """3 MB of unknown fields in a layer's header would come back in an event that nobody could receive."""
    here = coordinator()
    plan = join_all(here)
    layer = honest_layer(plan, "north", tmp_path, SECRET)
    begun = begin_of(plan, "north", layer)
    begun.header.MergeFromString(b"\xa2\x1f" + b"\xc0\x8d\xb7\x01" + bytes(3_000_000))
    assert begun.ByteSize() > 3_000_000
    stub = here.stub(NORTH)
    stub.BeginLayer(begun, timeout=DEADLINE_S)
    assert stub.UploadLayer(chunks_of(layer), timeout=DEADLINE_S).released
    assert here.run.events()[-1].ByteSize() < 300
    assert_honest_work_goes_on(here, plan, tmp_path)
