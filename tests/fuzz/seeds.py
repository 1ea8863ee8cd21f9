"""Valid messages for every call, as the parties of the small run send them: what the mutator starts from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from google.protobuf.message import Message
from safetensors.numpy import save

from mple.plan import RunPlan
from mple.v1 import common_pb2, coordinator_pb2, node_pb2
from tests.support.small_plan import key_of
from tests.support.small_run import MODEL, chunks_of, compute_join, header_of, sealed_for, site_join, stem_for

SERVICE = "/mple.v1.CoordinatorService/"
PROBE = "/mple.v1.NodeService/Probe"


@dataclass(frozen=True, slots=True)
class Seed:
    """The messages of one valid call."""

    method: str
    messages: tuple[Message, ...]
    callers: tuple[str, ...] = ("site/north", "site/south", "compute/compute")
    endless: bool = False


def coordinator_seeds(plan: RunPlan, layer: bytes) -> list[Seed]:
    """Every call of the coordinator, in each of its meanings.

    Args:
        plan: The run's plan, or the one that it will come to.
        layer: The layer file of site north.
    """
    pb = coordinator_pb2
    north = common_pb2.KeyRef(site="north", epoch=1, fingerprint=key_of("north").fingerprint())
    next_key = common_pb2.KeyRef(site="north", epoch=2, fingerprint=hashlib.sha256(b"next").digest())
    sha256, digest = plan.sha256(), stem_for().digest()
    begin = pb.BeginLayerRequest(header=header_of(plan, "north", layer), plan_sha256=sha256)
    epoch = pb.EpochDone(epoch=1, loss=0.5, scores={"accuracy": 0.75}, seconds=1.5)
    reports: list[tuple[str, Message, tuple[str, ...]]] = [
        ("layers_stored", pb.LayersStored(plan_sha256=sha256), ("compute/compute",)),
        ("epoch_done", epoch, ("compute/compute",)),
        ("training_done", pb.TrainingDone(model_sha256=MODEL), ("compute/compute",)),
        ("failure", pb.Failure(code="STALLED", text="nothing moved"), ("site/north", "compute/compute")),
        ("ledger_totals", pb.LedgerTotals(messages_sent=1, bytes_sent=2), ("site/north", "compute/compute")),
        ("key_stored", pb.KeyStored(key_ref=next_key), ("compute/compute",)),
        ("key_erased", pb.KeyErased(key_ref=north, samples=3), ("compute/compute",)),
    ]
    sites, compute = ("site/north", "site/south"), ("compute/compute",)
    return [
        Seed(SERVICE + "Join", (site_join("north"),)),
        Seed(SERVICE + "Join", (compute_join(),)),
        Seed(SERVICE + "Watch", (pb.WatchRequest(),), endless=True),
        Seed(SERVICE + "OfferStem", (pb.OfferStemRequest(safetensors=stem_for().to_safetensors()),), compute),
        Seed(SERVICE + "OfferStem", (pb.OfferStemRequest(safetensors=save({"a": stem_for().kernels_FCpp})),), compute),
        Seed(SERVICE + "GetStem", (pb.GetStemRequest(digest=digest),)),
        Seed(SERVICE + "PutSealed", (sealed_for("site/south"),), sites),
        Seed(SERVICE + "PutSealed", (sealed_for("coordinator/coordinator", pb.SEALED_KIND_MORPH_KEY),), sites),
        Seed(SERVICE + "GetSealed", (pb.GetSealedRequest(),), sites),
        Seed(SERVICE + "BeginLayer", (begin,), sites),
        Seed(SERVICE + "UploadLayer", tuple(chunks_of(layer, size=50_000)), sites),
        Seed(SERVICE + "DownloadLayer", (pb.DownloadLayerRequest(sha256=hashlib.sha256(layer).digest()),), compute),
        *(Seed(SERVICE + "Report", (pb.ReportRequest(**{name: part}),), who) for name, part, who in reports),  # type: ignore[arg-type]
        Seed(SERVICE + "RotateKey", (pb.RotateKeyRequest(key_ref=next_key, plan_sha256=sha256),), sites),
        Seed(SERVICE + "RevokeKey", (pb.RevokeKeyRequest(key_ref=north, plan_sha256=sha256),), sites),
        Seed(PROBE, (node_pb2.ProbeRequest(padding=b"abc", want_bytes=64),)),
    ]


def layer_with(content: bytes, plan: RunPlan) -> tuple[Message, tuple[Message, ...]]:
    """How site north announces and uploads any bytes as its layer: digest and size are right, the rest is not."""
    announced = coordinator_pb2.BeginLayerRequest(header=header_of(plan, "north", content), plan_sha256=plan.sha256())
    return announced, tuple(chunks_of(content))
