"""The compute node's process: serve, join a run, take part in it, and answer predictions for as long as it stays."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from compute_node.compute_run import ComputeRun
from compute_node.predictor import RestoredRun, restored_run
from compute_node.rank_settings import of_rank, require_equal
from compute_node.ranks import Ranks, joined_ranks
from compute_node.service import ComputeService
from mple.audit import audit
from mple.model.device import Device
from mple.model.initial_weights import InitialWeights
from mple.model.stem import Stem
from mple.node.coordinator_client import CoordinatorClient
from mple.node.logs import log, warn
from mple.node.preload import preload
from mple.node.retry import StoppedError, UnreachableError
from mple.node.run_events import read_plan
from mple.node.session import NodeSession, Remote, open_node
from mple.node.stop import Stop
from mple.plan import ComputeSettings
from mple.plan.run_plan import PROTOCOL_VERSION
from mple.rpc import Role, build_server
from mple.rpc.node_service import add_node_service
from mple.v1 import compute_pb2_grpc, coordinator_pb2

_GRACE_S = 10.0
_MOST_STREAMS = 3 * 1024
"""A thousand sites that feed, fetch the network and hold a broken stream each; the plan is not known yet."""
_LATE = ("torch._dynamo", "torch.profiler._cupti_monitor", "mple.model.vgg16")
"""What torch imports with the first step of an optimiser, and this program with the first network."""


def serve(settings: ComputeSettings, stop: Stop) -> None:
    """Serve sites and train one run.

    Raises ValueError: configuration, certificates, state folder or a busy port; MpleError: the run failed;
    UnreachableError: the coordinator could not be reached, RankEndedError: another rank could not, or has ended;
    StoppedError: the node was told to end.
    """
    preload(_LATE)
    torch.set_num_threads(1)  # only the trainer has more: see `ComputeRun`
    with joined_ranks(stop, Device.named(settings.device).backend) as ranks:
        require_equal(settings, ranks.main)
        own = of_rank(settings, ranks.share.rank, ranks.local)
        with open_node(own, Role.COMPUTE, "serve", stop) as node:
            service = ComputeService(node.me.consortium)
            kept = _answer_for_restored_run(node, own, service) if own.stay and ranks.main.leads else None
            with _serving(node, own, service):
                ranks.main.gather()  # all have their folders and ports
                _take_part(node, own, service, kept, ranks)


@contextmanager
def _serving(node: NodeSession, settings: ComputeSettings, service: ComputeService) -> Iterator[None]:
    built = build_server(settings.listen, node.tls, node.ledger, streams=_MOST_STREAMS)
    compute_pb2_grpc.add_ComputeServiceServicer_to_server(service, built.server)
    add_node_service(built.server, node.me)
    built.start()
    log("listening", f"listening on {built.address}")
    try:
        yield
    finally:
        built.stop(grace_s=_GRACE_S)


def _answer_for_restored_run(
    node: NodeSession, settings: ComputeSettings, service: ComputeService
) -> RestoredRun | None:
    """Answer predictions by the last run's network before, and also without, a word from the coordinator."""
    try:
        kept = restored_run(settings.state, Device.named(settings.device))
    except ValueError as fault:
        warn("not_kept", f"no predictions by the last run's network: {fault}")
        return None
    if kept is not None:
        node.ledger.run = kept.plan.run_id
        node.ledger.phase = "predict"
        service.open_predictions(kept.plan, kept.predictor)
        log("restored_run", f"answering predictions of run {kept.plan.run_id}")
    return kept


def _take_part(
    node: NodeSession, settings: ComputeSettings, service: ComputeService, kept: RestoredRun | None, ranks: Ranks
) -> None:
    coordinator = _coordinator_or_none(node, settings, kept) if ranks.main.leads else None
    if not ranks.main.broadcast(b"found" if coordinator else b""):
        node.stop.wait()
        raise StoppedError
    if coordinator is None:
        coordinator = node.find(settings.coordinator, Role.COORDINATOR, settings.idle_timeout_s)
    with node.channel(coordinator) as channel:
        client = CoordinatorClient(channel, coordinator.retry)
        node.ledger.phase = ""
        weights = _initial_weights(settings)
        joined = client.join(_join_request(settings, client, weights, ranks.share.ranks)) if ranks.main.leads else ""
        run_id = ranks.main.broadcast(joined.encode()).decode()
        node.ledger.run = run_id
        audit("local", "join", "ok", run=run_id)
        log("joined", f"joined run {run_id}")
        with node.follow(client) as events:
            run = ComputeRun(node, settings, client, service, read_plan(events.plan_made()), weights, ranks)
            run.take_part(events)
            run.end(events.sequence)


def _coordinator_or_none(node: NodeSession, settings: ComputeSettings, kept: RestoredRun | None) -> Remote | None:
    """None where there is no way to it, and the last run's network to answer by until this node is stopped."""
    try:
        return node.find(settings.coordinator, Role.COORDINATOR, settings.idle_timeout_s)
    except UnreachableError as fault:
        if kept is None:
            raise
        warn("staying", f"{fault}; answering predictions of run {kept.plan.run_id} until stopped")
        return None


def _initial_weights(settings: ComputeSettings) -> InitialWeights | None:
    if settings.weights_file is None:
        return None
    weights = InitialWeights.from_file(settings.weights_file)
    without = f"; no run has a use for its {', '.join(weights.ignored)}" if weights.ignored else ""
    text = f"first weights of {settings.weights_file}, digest {weights.sha256.hex()[:16]}{without}"
    log("initial_weights", text, sha256=weights.sha256.hex())
    return weights


def _join_request(
    settings: ComputeSettings, client: CoordinatorClient, weights: InitialWeights | None, ranks: int
) -> coordinator_pb2.JoinRequest:
    profile = coordinator_pb2.ComputeProfile(weights_digest=weights.sha256 if weights else b"", ranks=ranks)
    stem = weights.stem if weights else None
    if settings.stem_file is not None:
        stem = Stem.from_safetensors(settings.stem_file)
    if stem is not None:
        offer = coordinator_pb2.OfferStemRequest(safetensors=stem.to_safetensors())
        profile.stem_digest = client.ask(client.stub.OfferStem, offer).digest
    return coordinator_pb2.JoinRequest(protocol_version=PROTOCOL_VERSION, compute=profile)
