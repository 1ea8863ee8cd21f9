"""The coordinator's calls over loopback with mutual TLS: who may make which, and what they answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from coordinator.memory.state_file import StateFile
from coordinator.phases import Phase
from coordinator.run import Run
from coordinator.service import CoordinatorService
from mple.meter import Ledger
from mple.rpc import ErrorCode, Party, Role, build_server, open_channel
from mple.v1 import coordinator_pb2, coordinator_pb2_grpc
from tests.support.open_coordinator import (
    DEADLINE_S,
    OpenCoordinator,
    Stub,
    join_all,
    read,
    refused_call,
    report,
    upload,
)
from tests.support.small_run import (
    COMPUTE,
    COORDINATOR,
    SITES,
    begin_of,
    chunks_of,
    header_of,
    layer_bytes,
    layer_for,
    plan_for,
    settings_in,
    site_join,
    site_party,
    told,
)

NORTH, SOUTH, WEST = map(site_party, SITES)
SECRET = coordinator_pb2.SEALED_KIND_CONSORTIUM_SECRET
KEY = coordinator_pb2.SEALED_KIND_MORPH_KEY
EVERYTHING = coordinator_pb2.WatchRequest()
Opens = Callable[..., OpenCoordinator]


def test_join_answers_with_the_run_and_its_newest_event(open_coordinator: Opens) -> None:
    coordinator = open_coordinator()
    stub = coordinator.stub(NORTH)
    first, again = (stub.Join(site_join("north"), timeout=DEADLINE_S) for _ in range(2))
    assert first == again == coordinator_pb2.JoinResponse(run_id=coordinator.run.run.run_id, last_sequence=1)
    with refused_call(ErrorCode.ALREADY_JOINED, "site/north"):
        stub.Join(site_join("north", train_images=11), timeout=DEADLINE_S)


def test_certificates_are_those_of_the_callers(open_coordinator: Opens, certificates: dict[str, bytes]) -> None:
    coordinator = open_coordinator()
    join_all(coordinator)
    told_north = read(coordinator.stub(NORTH), 2)[-1].certificates
    assert {one.party: one.der for one in told_north.parties} == {
        label: der for label, der in certificates.items() if label in ("site/south", "site/west")
    }


def test_caller_of_another_consortium_is_refused(open_coordinator: Opens, tmp_path: Path) -> None:
    coordinator = open_coordinator()
    elsewhere = Party("elsewhere", Role.COORDINATOR, "coordinator")
    (tmp_path / "elsewhere" / "state").mkdir(parents=True)
    with (
        StateFile(tmp_path / "elsewhere" / "state") as file,
        Ledger(tmp_path / "elsewhere" / "ledger.sqlite", elsewhere.label) as ledger,
    ):
        run = Run(settings_in(tmp_path / "elsewhere"), elsewhere, b"certificate", file)
        rpc = build_server("127.0.0.1:0", coordinator.party_tls(COORDINATOR.role, COORDINATOR.name), ledger, streams=2)
        coordinator_pb2_grpc.add_CoordinatorServiceServicer_to_server(
            CoordinatorService(run, coordinator.run.releases), rpc.server
        )
        rpc.start()
        with open_channel(rpc.address, coordinator.party_tls(Role.SITE, "north"), COORDINATOR, ledger) as channel:
            stub = Stub(channel)
            with refused_call(ErrorCode.FOREIGN_CONSORTIUM, "mple://test/site/north calls consortium elsewhere"):
                stub.Join(site_join("north"), timeout=DEADLINE_S)
            with refused_call(ErrorCode.FOREIGN_CONSORTIUM):
                next(stub.Watch(EVERYTHING, timeout=DEADLINE_S))
        rpc.stop(0)
        assert run.log.last_sequence() == 0


Call = Callable[[Stub], object]
CALLS: dict[str, Call] = {
    "Join": lambda stub: stub.Join(coordinator_pb2.JoinRequest(protocol_version=1), timeout=DEADLINE_S),
    "Watch": lambda stub: next(stub.Watch(EVERYTHING, timeout=DEADLINE_S)),
    "OfferStem": lambda stub: stub.OfferStem(coordinator_pb2.OfferStemRequest(), timeout=DEADLINE_S),
    "GetStem": lambda stub: stub.GetStem(coordinator_pb2.GetStemRequest(), timeout=DEADLINE_S),
    "PutSealed": lambda stub: stub.PutSealed(coordinator_pb2.PutSealedRequest(), timeout=DEADLINE_S),
    "GetSealed": lambda stub: stub.GetSealed(coordinator_pb2.GetSealedRequest(), timeout=DEADLINE_S),
    "BeginLayer": lambda stub: stub.BeginLayer(coordinator_pb2.BeginLayerRequest(), timeout=DEADLINE_S),
    "UploadLayer": lambda stub: stub.UploadLayer(iter(()), timeout=DEADLINE_S),
    "DownloadLayer": lambda stub: next(stub.DownloadLayer(coordinator_pb2.DownloadLayerRequest(), timeout=DEADLINE_S)),
    "stored": lambda stub: report(stub, layers_stored=coordinator_pb2.LayersStored()),
    "epoch": lambda stub: report(stub, epoch_done=coordinator_pb2.EpochDone(epoch=1)),
    "done": lambda stub: report(stub, training_done=coordinator_pb2.TrainingDone(model_sha256=bytes(32))),
    "totals": lambda stub: report(stub, ledger_totals=coordinator_pb2.LedgerTotals()),
    "failure": lambda stub: report(stub, failure=coordinator_pb2.Failure(text="fire")),
}


def test_roles_keep_to_their_calls(open_coordinator: Opens) -> None:
    coordinator = open_coordinator()
    join_all(coordinator)
    for party, calls in (
        (NORTH, ("OfferStem", "DownloadLayer", "stored", "epoch", "done")),
        (COMPUTE, ("PutSealed", "GetSealed", "BeginLayer", "UploadLayer")),
        (
            COORDINATOR,
            (
                "Join",
                "Watch",
                "OfferStem",
                "GetStem",
                "PutSealed",
                "GetSealed",
                "BeginLayer",
                "UploadLayer",
                "DownloadLayer",
                "stored",
                "failure",
            ),
        ),
    ):
        stub = coordinator.stub(party)
        for call in calls:
            with refused_call(ErrorCode.ROLE_NOT_ALLOWED, party.label):
                CALLS[call](stub)
    assert coordinator.run.run.state().phase is Phase.SETUP


def test_party_that_has_not_joined_is_refused(open_coordinator: Opens) -> None:
    coordinator = open_coordinator()
    coordinator.stub(SOUTH).Join(site_join("south"), timeout=DEADLINE_S)
    for party, calls in (
        (NORTH, ("Watch", "GetStem", "PutSealed", "GetSealed", "BeginLayer", "UploadLayer", "totals")),
        (COMPUTE, ("Watch", "GetStem", "DownloadLayer", "stored", "epoch", "done")),
    ):
        stub = coordinator.stub(party)
        for call in calls:
            with refused_call(ErrorCode.UNKNOWN_PARTY, f"{party.label} has not joined; join first"):
                CALLS[call](stub)


def test_party_that_the_run_does_not_have_is_refused(open_coordinator: Opens) -> None:
    coordinator = open_coordinator()
    stranger = coordinator.stub(site_party("east"))
    with refused_call(ErrorCode.UNKNOWN_PARTY, "the run has the sites north, south, west"):
        stranger.Join(site_join("east"), timeout=DEADLINE_S)
    for call in ("Watch", "PutSealed", "BeginLayer", "UploadLayer", "failure"):
        with refused_call(ErrorCode.UNKNOWN_PARTY):
            CALLS[call](stranger)
    assert coordinator.run.run.state().phase is Phase.GATHERING


def test_site_does_not_speak_for_another_sites_layer(open_coordinator: Opens) -> None:
    coordinator = open_coordinator()
    plan = join_all(coordinator)
    data = coordinator.run.layer("north")
    north, south = coordinator.stub(NORTH), coordinator.stub(SOUTH)
    with refused_call(ErrorCode.UNKNOWN_KEY_REF, "site south announces a layer of 'north'"):
        south.BeginLayer(begin_of(plan, "north", data), timeout=DEADLINE_S)
    north.BeginLayer(begin_of(plan, "north", data), timeout=DEADLINE_S)
    with refused_call(ErrorCode.UNKNOWN_KEY_REF, "not one of site south"):
        south.UploadLayer(chunks_of(data), timeout=DEADLINE_S)
    with refused_call(ErrorCode.LAYER_REJECTED, "another site has announced"):
        south.BeginLayer(begin_of(plan, "south", data), timeout=DEADLINE_S)
    assert north.UploadLayer(chunks_of(data), timeout=DEADLINE_S).released


def test_other_plan_is_refused(open_coordinator: Opens) -> None:
    coordinator = open_coordinator()
    plan = join_all(coordinator)
    other = plan_for()
    data = coordinator.run.layer("north")
    request = coordinator_pb2.BeginLayerRequest(header=header_of(plan, "north", data), plan_sha256=other.sha256())
    with refused_call(ErrorCode.PLAN_HASH_MISMATCH, f"follows {other.sha256().hex()[:16]}"):
        coordinator.stub(NORTH).BeginLayer(request, timeout=DEADLINE_S)
    coordinator.run.upload_all()
    with refused_call(ErrorCode.PLAN_HASH_MISMATCH, f"follows {other.sha256().hex()[:16]}"):
        report(coordinator.stub(COMPUTE), layers_stored=coordinator_pb2.LayersStored(plan_sha256=other.sha256()))


def test_report_without_content_is_refused(open_coordinator: Opens) -> None:
    coordinator = open_coordinator()
    with refused_call(ErrorCode.MESSAGE_MALFORMED, "a report without content"):
        report(coordinator.stub(NORTH))


def test_stem_is_given_by_its_digest(open_coordinator: Opens) -> None:
    coordinator = open_coordinator()
    plan = join_all(coordinator)
    for party in (NORTH, COMPUTE):
        request = coordinator_pb2.GetStemRequest(digest=bytes.fromhex(plan.stem_digest))
        given = coordinator.stub(party).GetStem(request, timeout=DEADLINE_S)
        assert given.safetensors == coordinator.run.run.stem.to_safetensors()
    with refused_call(ErrorCode.STEM_REJECTED, "the plan's stem is"):
        CALLS["GetStem"](coordinator.stub(NORTH))


def test_failure_reaches_every_watcher_and_later_calls(open_coordinator: Opens) -> None:
    coordinator = open_coordinator()
    plan = join_all(coordinator)
    watching = [coordinator.stub(party).Watch(EVERYTHING, timeout=DEADLINE_S) for party in (NORTH, WEST, COMPUTE)]
    CALLS["failure"](coordinator.stub(SOUTH))
    for stream in watching:
        assert [told(event) for event in stream][-1] == "failed"
    with refused_call(ErrorCode.RUN_FAILED, "site/south: fire"):
        coordinator.stub(NORTH).BeginLayer(begin_of(plan, "north", b"x"), timeout=DEADLINE_S)


def test_rejected_layer_is_told_and_another_may_follow(open_coordinator: Opens, tmp_path: Path) -> None:
    coordinator = open_coordinator()
    plan = join_all(coordinator)
    coordinator.run.upload("south", coordinator.run.layer("south"))
    north = coordinator.stub(NORTH)
    wrong = layer_bytes(layer_for(plan, "north", secret=bytes(32)), tmp_path)
    with refused_call(ErrorCode.LAYER_REJECTED, "another stem, channel order or scheme"):
        upload(north, plan, "north", wrong)
    upload(north, plan, "north", coordinator.run.layer("north"))
