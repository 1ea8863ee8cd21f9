"""A whole run over loopback by three sites and a compute node, in both custodies, and across a restart."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coordinator.phases import Phase
from mple.node.run_events import certificate_of, ended, read_plan
from mple.pki import open_sealed, seal
from mple.plan import Custody, RunPlan
from mple.plan.orders import seal_info
from mple.rpc import Party, Role
from mple.v1 import coordinator_pb2
from tests.support.open_coordinator import (
    DEADLINE_S,
    OpenCoordinator,
    honest_layer,
    join_all,
    read,
    report,
    upload,
)
from tests.support.small_plan import key_of
from tests.support.small_run import (
    COMPUTE,
    COORDINATOR,
    SITES,
    begin_of,
    compute_join,
    settings_in,
    site_join,
    site_party,
    told,
)

SECRET = coordinator_pb2.SEALED_KIND_CONSORTIUM_SECRET
KEY = coordinator_pb2.SEALED_KIND_MORPH_KEY
NORTH = site_party("north")
EVERYTHING = coordinator_pb2.WatchRequest()
Opens = Callable[..., OpenCoordinator]


class Site:
    """A site's way through the run, by its stub."""

    def __init__(self, coordinator: OpenCoordinator, name: str, folder: Path) -> None:
        self.me, self.folder = site_party(name), folder
        self.tls = coordinator.party_tls(Role.SITE, name)
        self.stub = coordinator.stub(self.me)
        self.certificates: dict[str, bytes] = {}

    def take_part(self) -> list[str]:
        self.stub.Join(site_join(self.me.name), timeout=DEADLINE_S)
        story = []
        for event in self.stub.Watch(EVERYTHING, timeout=DEADLINE_S):
            story.append(told(event))
            self.certificates |= {one.party: one.der for one in event.certificates.parties}
            if event.WhichOneof("event") == "plan_made":
                plan = read_plan(event.plan_made)
            elif story[-1] == "setup":
                self.set_up(plan)
            if ended(event):
                break
        report(self.stub, ledger_totals=coordinator_pb2.LedgerTotals())
        return story

    def set_up(self, plan: RunPlan) -> None:
        first = site_party(plan.sites[0].name)
        if plan.custody is Custody.ESCROW:
            self.put(plan, COORDINATOR, KEY, key_of(self.me.name).seed)
            self.get(plan, COORDINATOR)
            return
        secret = hashlib.sha256(plan.run_id.encode()).digest()
        if self.me == first:
            for site in plan.sites[1:]:
                self.put(plan, site_party(site.name), SECRET, secret)
        else:
            secret = self.get(plan, first)
        upload(self.stub, plan, self.me.name, honest_layer(plan, self.me.name, self.folder, secret))

    def put(self, plan: RunPlan, recipient: Party, kind: coordinator_pb2.SealedKind, secret: bytes) -> None:
        certificate = certificate_of(self.certificates, recipient, self.tls.ca.read_bytes())
        envelope = seal(certificate, secret, seal_info(plan.run_id, self.me.label, recipient.label, kind))
        request = coordinator_pb2.PutSealedRequest(recipient=recipient.label, kind=kind, envelope=envelope)
        self.stub.PutSealed(request, timeout=DEADLINE_S)

    def get(self, plan: RunPlan, sender: Party) -> bytes:
        while not (left := self.stub.GetSealed(coordinator_pb2.GetSealedRequest(), timeout=DEADLINE_S).envelopes):
            threading.Event().wait(0.01)
        assert [one.sender for one in left] == [sender.label]
        info = seal_info(plan.run_id, sender.label, self.me.label, SECRET)
        return open_sealed(self.tls.key, left[0].envelope, info)


class ComputeNode:
    """The compute node's way, without the training."""

    def __init__(self, coordinator: OpenCoordinator) -> None:
        self.stub = coordinator.stub(COMPUTE)
        self.layers: dict[str, bytes] = {}

    def take_part(self) -> list[str]:
        self.stub.Join(compute_join(), timeout=DEADLINE_S)
        story = []
        for event in self.stub.Watch(EVERYTHING, timeout=DEADLINE_S):
            story.append(told(event))
            if event.WhichOneof("event") == "plan_made":
                plan = read_plan(event.plan_made)
            elif event.WhichOneof("event") == "layer_released":
                self.fetch(event.layer_released.header)
                if len(self.layers) == len(plan.sites):
                    report(self.stub, layers_stored=coordinator_pb2.LayersStored(plan_sha256=plan.sha256()))
            elif story[-1] == "training":
                report(
                    self.stub,
                    epoch_done=coordinator_pb2.EpochDone(epoch=1, loss=0.5, scores={"accuracy": 0.5}, seconds=1),
                )
                report(self.stub, training_done=coordinator_pb2.TrainingDone(model_sha256=bytes(32)))
            if ended(event):
                break
        return story

    def fetch(self, header: coordinator_pb2.LayerHeader) -> None:
        request = coordinator_pb2.DownloadLayerRequest(sha256=header.sha256)
        data = b"".join(message.data for message in self.stub.DownloadLayer(request, timeout=DEADLINE_S))
        assert hashlib.sha256(data).digest() == header.sha256
        self.layers[header.key_ref.site] = data


@pytest.mark.parametrize("custody", Custody)
def test_whole_run_by_three_sites_and_a_compute_node(open_coordinator: Opens, custody: Custody, tmp_path: Path) -> None:
    coordinator = open_coordinator(settings_in(tmp_path, custody=custody))
    compute = ComputeNode(coordinator)
    parties: list[Site | ComputeNode] = [compute, *(Site(coordinator, site, tmp_path) for site in SITES)]
    with ThreadPoolExecutor(len(parties)) as threads:
        stories = [done.result(60) for done in [threads.submit(party.take_part) for party in parties]]
    shared = ["training", "epoch 1", "finished"]
    assert stories[0][:3] == ["joined compute/compute", "plan_made", "setup"]
    assert sorted(stories[0][3:6]) == [f"layer {site}" for site in sorted(SITES)]
    assert stories[0][6:] == shared
    for site, story in zip(SITES, stories[1:], strict=True):
        sealing = ["certificates"] if custody is Custody.ESCROW or site == SITES[0] else []
        sealed = ["envelope_left"] if custody is Custody.ESCROW or site != SITES[0] else []
        assert story == [f"joined site/{site}", *sealing, "plan_made", "setup", *sealed, *shared]
    assert sorted(compute.layers) == sorted(SITES)
    assert coordinator.run.run.state().phase is Phase.FINISHED
    assert coordinator.run.run.totals_from() == {f"site/{site}" for site in SITES}
    last = coordinator.run.run.log.last_sequence()
    assert coordinator.service.seen_by(last) == {COMPUTE.label, *(f"site/{site}" for site in SITES)}


def test_coordinator_that_starts_again_serves_the_same_run(open_coordinator: Opens) -> None:
    coordinator = open_coordinator()
    plan = join_all(coordinator)
    data = coordinator.run.layer("north")
    stub = coordinator.stub(NORTH)
    before = [told(event) for event in read(stub, 4)]
    stub.BeginLayer(begin_of(plan, "north", data), timeout=DEADLINE_S)
    coordinator.restart()
    stub = coordinator.stub(NORTH)
    assert (
        [told(event) for event in read(stub, 4)]
        == before
        == ["joined site/north", "certificates", "plan_made", "setup"]
    )
    upload(stub, plan, "north", data)
    compute = coordinator.stub(COMPUTE)
    assert [told(event) for event in read(compute, 1, after=7)] == ["layer north"]
