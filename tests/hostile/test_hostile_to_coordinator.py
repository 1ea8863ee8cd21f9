"""What sites and compute nodes may do to the coordinator, and what they get: a precise refusal, and a run that goes on.

Every act is made over mutual TLS with a certificate of the consortium, by a party of the run unless it says otherwise.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from mple.plan import RunPlan
from mple.plan.key_refs import key_ref
from mple.plan.run_plan import PROTOCOL_VERSION
from mple.rpc import ErrorCode, Party
from mple.rpc.settings import RECEIVE_LIMIT_BYTES
from mple.v1 import common_pb2, coordinator_pb2
from tests.fuzz.campaign import rss_mib
from tests.support.open_coordinator import (
    DEADLINE_S,
    OpenCoordinator,
    honest_layer,
    join_all,
    refused_call,
    report,
    upload,
)
from tests.support.raw_calls import (
    COORDINATOR,
    Refusals,
    assert_honest_work_goes_on,
    assert_refused,
    call,
    channel_of,
    never,
    within,
)
from tests.support.small_plan import key_of
from tests.support.small_run import (
    COMPUTE,
    SECRET,
    SITES,
    begin_of,
    chunks_of,
    sealed_for,
    site_join,
    site_party,
    stem_for,
)

pb = coordinator_pb2
NORTH, SOUTH, WEST = map(site_party, SITES)

Coordinator = Callable[..., OpenCoordinator]
E = ErrorCode
NAN, INF, HUGE = float("nan"), float("inf"), 2**64 - 1


def begin(plan: RunPlan, **changes: object) -> pb.BeginLayerRequest:
    header: dict[str, object] = {"key_ref": key_ref(plan, "north"), "total_bytes": 1, "sha256": bytes(32)}
    return pb.BeginLayerRequest(header=pb.LayerHeader(**(header | changes)), plan_sha256=plan.sha256())  # type: ignore[arg-type]


def key(**changes: object) -> common_pb2.KeyRef:
    known: dict[str, object] = {"site": "north", "epoch": 1, "fingerprint": key_of("north").fingerprint()}
    return common_pb2.KeyRef(**(known | changes))  # type: ignore[arg-type]


def epoch(**changes: object) -> Callable[[RunPlan], pb.ReportRequest]:
    figures: dict[str, object] = {"epoch": 1, "loss": 0.5, "scores": {"accuracy": 0.5}, "seconds": 1.0} | changes
    return lambda _plan: pb.ReportRequest(epoch_done=pb.EpochDone(**figures))  # type: ignore[arg-type]


def chunk(**fields: object) -> Callable[[RunPlan], pb.UploadLayerRequest]:
    return lambda _plan: pb.UploadLayerRequest(**fields)  # type: ignore[arg-type]


MANY_CLASSES = [f"c{number}" for number in range(70_000)]
UNKNOWN_KIND = b"\x0a\x0asite/south\x10\x63\x1a\x01x"  # PutSealedRequest: recipient, kind 99, envelope
ACTS: dict[str, tuple[Party, str, Callable[[RunPlan], object], ErrorCode]] = {
    # Declared sizes.
    "four billion images": (NORTH, "Join", lambda _: site_join("north", train_images=2**32 - 1), E.MESSAGE_MALFORMED),
    "four billion test images": (
        NORTH,
        "Join",
        lambda _: site_join("north", test_images=2**32 - 1),
        E.MESSAGE_MALFORMED,
    ),
    "images beyond any size": (NORTH, "Join", lambda _: site_join("north", width=2**32 - 1), E.MESSAGE_MALFORMED),
    "70,000 classes": (NORTH, "Join", lambda _: site_join("north", classes=MANY_CLASSES), E.MESSAGE_MALFORMED),
    "a class name of 1 MB": (
        NORTH,
        "Join",
        lambda _: site_join("north", classes=["a", "b" * 10**6]),
        E.MESSAGE_MALFORMED,
    ),
    "a layer of 2^64 bytes": (NORTH, "BeginLayer", lambda plan: begin(plan, total_bytes=HUGE), E.LAYER_REJECTED),
    "a digest of 1 MB": (
        NORTH,
        "BeginLayer",
        lambda plan: begin(plan, total_bytes=204_900, sha256=bytes(10**6)),
        E.LAYER_REJECTED,
    ),
    "an envelope of 1 MB": (
        NORTH,
        "PutSealed",
        lambda _: pb.PutSealedRequest(recipient="site/south", kind=1, envelope=bytes(10**6)),
        E.ENVELOPE_REJECTED,
    ),  # type: ignore[arg-type]
    "a probe that asks for 4 GB": (
        NORTH,
        "/mple.v1.NodeService/Probe",
        lambda _: b"\x10" + b"\xff\xff\xff\xff\x0f",
        E.MESSAGE_MALFORMED,
    ),
    # Speaking for another.
    "another site's key at joining": (
        NORTH,
        "Join",
        lambda _: site_join("north", key_ref=key(site="south")),
        E.UNKNOWN_KEY_REF,
    ),
    "another site's layer": (
        NORTH,
        "BeginLayer",
        lambda plan: begin(plan, key_ref=key_ref(plan, "south")),
        E.UNKNOWN_KEY_REF,
    ),
    "a key that the run does not have": (
        NORTH,
        "BeginLayer",
        lambda plan: begin(plan, key_ref=key(epoch=2)),
        E.UNKNOWN_KEY_REF,
    ),
    "an envelope that is not this site's to send": (
        SOUTH,
        "PutSealed",
        lambda _: sealed_for("site/west"),
        E.ENVELOPE_REJECTED,
    ),
    "an envelope to oneself": (NORTH, "PutSealed", lambda _: sealed_for("site/north"), E.ENVELOPE_REJECTED),
    "a site that joins as the compute node": (
        NORTH,
        "Join",
        lambda _: pb.JoinRequest(protocol_version=PROTOCOL_VERSION, compute=pb.ComputeProfile(ranks=1)),
        E.MESSAGE_MALFORMED,
    ),
    "a site that reports an epoch": (NORTH, "Report", epoch(), E.ROLE_NOT_ALLOWED),
    "a compute node that uploads": (COMPUTE, "UploadLayer", chunk(data=b"x"), E.ROLE_NOT_ALLOWED),
    "a site that downloads": (
        NORTH,
        "DownloadLayer",
        lambda _: pb.DownloadLayerRequest(sha256=bytes(32)),
        E.ROLE_NOT_ALLOWED,
    ),
    "a site that is not of the run": (site_party("stranger"), "Join", lambda _: site_join("stranger"), E.UNKNOWN_PARTY),
    "an event stream for a stranger": (site_party("stranger"), "Watch", lambda _: pb.WatchRequest(), E.UNKNOWN_PARTY),
    # Figures that can't be.
    "a loss that is no number": (COMPUTE, "Report", epoch(loss=NAN), E.MESSAGE_MALFORMED),
    "an infinite loss": (COMPUTE, "Report", epoch(loss=INF), E.MESSAGE_MALFORMED),
    "a negative loss": (COMPUTE, "Report", epoch(loss=-1), E.MESSAGE_MALFORMED),
    "an accuracy above one": (COMPUTE, "Report", epoch(scores={"accuracy": 1.5}), E.MESSAGE_MALFORMED),
    "a score that nobody knows": (COMPUTE, "Report", epoch(scores={"n" * 100_000: 0.5}), E.MESSAGE_MALFORMED),
    "seconds that are no number": (COMPUTE, "Report", epoch(seconds=NAN), E.MESSAGE_MALFORMED),
    "an epoch that the plan does not have": (COMPUTE, "Report", epoch(epoch=2**32 - 1), E.MESSAGE_MALFORMED),
    "a model digest of 1 MB": (
        COMPUTE,
        "Report",
        lambda _: pb.ReportRequest(training_done=pb.TrainingDone(model_sha256=bytes(10**6))),
        E.MESSAGE_MALFORMED,
    ),
    # Out of order, or of another run.
    "another protocol": (NORTH, "Join", lambda _: pb.JoinRequest(site=site_join("north").site), E.PROTOCOL_VERSION),
    "another plan": (
        NORTH,
        "BeginLayer",
        lambda plan: pb.BeginLayerRequest(header=begin(plan).header, plan_sha256=bytes(32)),
        E.PLAN_HASH_MISMATCH,
    ),
    "a layer that nobody announced": (NORTH, "UploadLayer", chunk(sha256=bytes(32), data=b"x"), E.FILE_OFFSET),
    "events of the future": (NORTH, "Watch", lambda _: pb.WatchRequest(after_sequence=HUGE), E.MESSAGE_MALFORMED),
    "training that ends before it began": (
        COMPUTE,
        "Report",
        lambda _: pb.ReportRequest(training_done=pb.TrainingDone(model_sha256=bytes(32))),
        E.WRONG_PHASE,
    ),
    "a layer that is not released": (
        COMPUTE,
        "DownloadLayer",
        lambda _: pb.DownloadLayerRequest(sha256=bytes(32), offset=HUGE),
        E.UNKNOWN_KEY_REF,
    ),
    "a stem that the run does not want": (
        COMPUTE,
        "OfferStem",
        lambda _: pb.OfferStemRequest(safetensors=stem_for().to_safetensors()),
        E.STEM_REJECTED,
    ),
    "another stem's digest": (NORTH, "GetStem", lambda _: pb.GetStemRequest(digest=bytes(10**6)), E.STEM_REJECTED),
    "a key change before training": (
        NORTH,
        "RotateKey",
        lambda plan: pb.RotateKeyRequest(key_ref=key(epoch=2), plan_sha256=plan.sha256()),
        E.KEY_CHANGE_REFUSED,
    ),
    # What is no message, or an empty one.
    "a join without a party": (
        NORTH,
        "Join",
        lambda _: pb.JoinRequest(protocol_version=PROTOCOL_VERSION),
        E.MESSAGE_MALFORMED,
    ),
    "a report without content": (NORTH, "Report", lambda _: b"", E.MESSAGE_MALFORMED),
    "an envelope of an unknown kind": (NORTH, "PutSealed", lambda _: UNKNOWN_KIND, E.ENVELOPE_REJECTED),
    "rubbish": (NORTH, "Join", lambda _: b"\xff" * 1000, E.MESSAGE_MALFORMED),
    "rubbish in a stream": (NORTH, "UploadLayer", lambda _: b"\xff" * 1000, E.MESSAGE_MALFORMED),
    "text that is no UTF-8": (NORTH, "PutSealed", lambda _: b"\x0a\x02\xff\xfe", E.MESSAGE_MALFORMED),
    "groups 100,000 deep": (NORTH, "Join", lambda _: b"\x0b" * 100_000, E.MESSAGE_MALFORMED),
}


@pytest.mark.parametrize("act", ACTS)
def test_an_act_is_refused_and_the_run_goes_on(
    coordinator: Coordinator, audited: Refusals, tmp_path: Path, act: str
) -> None:
    here = coordinator()
    plan = join_all(here)
    story = here.run.story()
    caller, method, made, code = ACTS[act]
    message = made(plan)
    data = message if isinstance(message, bytes) else message.SerializeToString()  # type: ignore[attr-defined]
    with channel_of(here, caller) as channel:
        outcome = call(channel, method if "/" in method else COORDINATOR + method, data)
    assert_refused(outcome, code, caller.label, audited)
    assert here.run.story() == story, "nothing has happened"
    assert_honest_work_goes_on(here, plan, tmp_path)


# Room.


def test_one_site_cannot_take_every_stream(coordinator: Coordinator, audited: Refusals, tmp_path: Path) -> None:
    here = coordinator()
    plan = join_all(here)
    stub = here.stub(NORTH)
    watching = [stub.Watch(pb.WatchRequest(), timeout=DEADLINE_S) for _ in range(8)]
    for stream in watching:
        next(stream)
    for _ in range(50):
        with refused_call(E.TOO_MANY_CALLS, "8 are open"):
            next(stub.Watch(pb.WatchRequest(), timeout=DEADLINE_S))
    assert ("site/north", E.TOO_MANY_CALLS) in audited()
    assert_honest_work_goes_on(here, plan, tmp_path)
    watching[0].cancel()
    assert within(lambda: stub.Join.future(site_join("north"), timeout=DEADLINE_S).exception() is None)


@pytest.mark.parametrize("method", ["Join", "Watch", "Report", "GetSealed", "BeginLayer"])
def test_a_call_without_its_request_is_ended(
    coordinator: Coordinator, audited: Refusals, tmp_path: Path, method: str
) -> None:
    here = coordinator(idle_s=0.3)
    plan = join_all(here)
    over = threading.Event()
    with channel_of(here, NORTH) as channel:
        calls = [channel.stream_stream(COORDINATOR + method)(never(over), timeout=DEADLINE_S) for _ in range(8)]
        for one in calls:
            with refused_call(E.STREAM_TRUNCATED, "no message came"):
                next(one)
        over.set()
        outcome = call(channel, COORDINATOR + method)
    assert_refused(outcome, E.MESSAGE_MALFORMED, "site/north", audited)
    assert_honest_work_goes_on(here, plan, tmp_path)


def test_watchers_and_downloads_that_do_not_read_hold_no_memory(coordinator: Coordinator, tmp_path: Path) -> None:
    here = coordinator()
    plan = join_all(here)
    upload(here.stub(NORTH), plan, "north", honest_layer(plan, "north", tmp_path, SECRET))
    header = next(event.layer_released.header for event in here.run.events() if event.HasField("layer_released"))
    before_mib = rss_mib()
    with channel_of(here, COMPUTE) as compute, channel_of(here, NORTH) as north:
        request = pb.DownloadLayerRequest(sha256=header.sha256).SerializeToString()
        unread = [compute.stream_stream(COORDINATOR + "DownloadLayer")(iter([request])) for _ in range(8)]
        unread += [north.stream_stream(COORDINATOR + "Watch")(iter([b""])) for _ in range(8)]
        assert_honest_work_goes_on(here, plan, tmp_path)
        assert rss_mib() - before_mib < 50
        for one in unread:
            one.cancel()


def test_a_flood_of_refused_calls_fills_neither_memory_nor_trail(
    coordinator: Coordinator, audited: Refusals, tmp_path: Path
) -> None:
    here = coordinator()
    plan = join_all(here)
    with channel_of(here, NORTH) as channel:
        call(channel, COORDINATOR + "Join", b"\xff" * 100_000)
        before_mib = rss_mib()
        for _ in range(300):
            assert call(channel, COORDINATOR + "Join", b"\xff" * 100_000).code == E.MESSAGE_MALFORMED
    assert rss_mib() - before_mib < 30
    assert len(audited()) <= 40
    assert_honest_work_goes_on(here, plan, tmp_path)


@pytest.mark.parametrize("compressed", [False, True], ids=["as it is", "compressed"])
def test_a_message_beyond_the_limit_is_refused(coordinator: Coordinator, tmp_path: Path, compressed: bool) -> None:
    """Also one that is small on the wire and 64 MiB when it is unpacked."""
    here = coordinator()
    plan = join_all(here)
    before_mib = rss_mib()
    with channel_of(here, NORTH) as channel:
        how = grpc.Compression.Gzip if compressed else None
        size = 64 * 1024 * 1024 if compressed else RECEIVE_LIMIT_BYTES + 1
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(COORDINATOR + "Join")(bytes(size), timeout=DEADLINE_S, compression=how)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert rss_mib() - before_mib < 100
    assert_honest_work_goes_on(here, plan, tmp_path)


# Identity and metadata.


def test_a_second_process_with_the_same_certificate(coordinator: Coordinator, tmp_path: Path) -> None:
    """Equal, it is a restart; different, it is refused, and the first one's word stands."""
    here = coordinator()
    plan = join_all(here)
    here.stub(NORTH).Join(site_join("north"), timeout=DEADLINE_S)
    with refused_call(E.ALREADY_JOINED):
        here.stub(NORTH).Join(site_join("north", train_images=11), timeout=DEADLINE_S)
    assert here.run.run.plan == plan
    layer = honest_layer(plan, "north", tmp_path, SECRET)
    over, parts = threading.Event(), [part.SerializeToString() for part in chunks_of(layer, size=100_000)]
    here.stub(NORTH).BeginLayer(begin_of(plan, "north", layer), timeout=DEADLINE_S)
    part = here.run.run.layers.path(hashlib.sha256(layer).digest()).with_suffix(".part")
    with channel_of(here, NORTH) as channel:
        older = channel.stream_stream(COORDINATOR + "UploadLayer")(never(over, parts[:1]), timeout=DEADLINE_S)
        assert within(part.exists)
        upload(here.stub(NORTH), plan, "north", layer)
        over.set()
        with refused_call(E.STREAM_TRUNCATED):
            next(older)
    assert_honest_work_goes_on(here, plan, tmp_path)


def test_an_unknown_call_is_unimplemented(coordinator: Coordinator, tmp_path: Path) -> None:
    here = coordinator()
    plan = join_all(here)
    with channel_of(here, NORTH) as channel:
        for method in (COORDINATOR + "DropTable", COORDINATOR, "/", "/mple.v1.ComputeService/Feed"):
            assert call(channel, method, b"").status == "UNIMPLEMENTED"
    assert_honest_work_goes_on(here, plan, tmp_path)


@pytest.mark.parametrize(
    "call_id",
    ["", "x" * 16, "0" * 4000, "'; DROP TABLE--", "ffffffffffffffff"],
    ids=["none", "letters", "long", "SQL", "used"],
)
def test_rubbish_or_a_replayed_id_in_the_metadata_changes_nothing(
    coordinator: Coordinator, tmp_path: Path, call_id: str
) -> None:
    here = coordinator()
    plan = join_all(here)
    stub = here.stub(NORTH)
    with channel_of(here, NORTH) as channel:
        for _ in range(2):
            join = channel.unary_unary(COORDINATOR + "Join")
            metadata = (("mple-call", call_id), ("mple-call-bin", b"\x00\xff"), ("mple-error", "INTERNAL"))
            answer = pb.JoinResponse.FromString(
                join(site_join("north").SerializeToString(), timeout=DEADLINE_S, metadata=metadata)
            )
            assert answer.run_id == plan.run_id
    stub.Join(site_join("north"), timeout=DEADLINE_S)
    assert_honest_work_goes_on(here, plan, tmp_path)


def test_a_party_may_end_the_run_but_not_begin_it_anew(coordinator: Coordinator) -> None:
    here = coordinator()
    join_all(here)
    report(here.stub(NORTH), failure=pb.Failure(code="X" * 1000, text="Y" * 100_000))
    assert here.run.story()[-2:] == ["fault site/north", "failed"]
    assert max(event.ByteSize() for event in here.run.events()[-2:]) < 2000
    with refused_call(E.RUN_FAILED):
        here.stub(SOUTH).PutSealed(sealed_for("site/north"), timeout=DEADLINE_S)
