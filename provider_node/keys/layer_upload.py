"""A site's augmented layer: built once, uploaded in pieces that a broken link need not repeat, then forgotten here."""

from collections.abc import Iterator
from pathlib import Path

from mple.audit import audit
from mple.model.stem import Stem, StemError, planned_stem
from mple.morph import MorphKey
from mple.morph.basis import Basis
from mple.node.coordinator_client import CoordinatorClient
from mple.node.layer_building import build_layer_file, layer_header
from mple.node.logs import log, warn
from mple.plan import RunPlan
from mple.rpc import ErrorCode, MpleError
from mple.rpc.file_transfer import chunks_of, while_torn
from mple.v1 import common_pb2, coordinator_pb2
from provider_node.keys.key_basis import begin_basis
from provider_node.keys.run_keys import RunKeys
from provider_node.site import Site

_DEADLINE_S = 30.0
_UPLOAD_S = 3600.0


def bring_layer(
    client: CoordinatorClient,
    plan: RunPlan,
    key: MorphKey,
    key_ref: common_pb2.KeyRef,
    consortium_secret: bytes,
    keys: RunKeys,
    basis: Basis | None = None,
) -> Path:
    """Have the layer of a key released, and return its file, which the caller removes once it has noted the release.

    The file is kept meanwhile: built again it might have other bits, which the coordinator would refuse. One that is
    damaged is built again all the same: nobody behind it could see a change below the rounding.

    Raises MpleError: the coordinator refused the layer, or the stem is not the plan's; StoppedError: the node is to
    stop.
    """
    path, built = layer_file(keys.folder, plan, key_ref), keys.notes.built.get(key_ref.epoch)
    header = layer_header(key_ref, path) if path.exists() else None
    if header is not None and header.sha256.hex() != built:
        warn("layer_damaged", f"{path} is damaged: its digest is another; it is built again")
        header = None
    if header is None:
        header = build_layer_file(plan, key, key_ref, consortium_secret, fetch_stem(client, plan), path, basis)
        keys.note_built(key_ref.epoch, header.sha256)
    begin = coordinator_pb2.BeginLayerRequest(header=header, plan_sha256=plan.sha256())

    there = 0

    def attempt() -> bool:
        nonlocal there
        at = there = client.stub.BeginLayer(begin, timeout=_DEADLINE_S).resume_offset
        if at:
            log("layer_resumed", f"the layer upload goes on at byte {at}")
        return bool(client.stub.UploadLayer(_messages(path, header, at), timeout=_UPLOAD_S).released)

    if not while_torn(lambda: client.retry.call(attempt, lambda: there)):
        raise MpleError(ErrorCode.LAYER_REJECTED, "the coordinator kept the layer but did not release it")
    audit("local", "layer_uploaded", "ok", epoch=key_ref.epoch, sha256=header.sha256.hex())
    return path


def bring_again(client: CoordinatorClient, plan: RunPlan, site: Site, header: coordinator_pb2.LayerHeader) -> None:
    """Upload a released layer that the coordinator has lost, built anew; nothing where it has it again, as after a
    restart, or where it is another site's. What can't be done is warned of: the coordinator is told by its operator.

    Raises StoppedError, UnreachableError: as `mple.node.retry.RetryPolicy.call`; DamagedError: a secret of the run is
    gone or another.
    """
    reference = header.key_ref
    if reference.site != site.name:
        return
    try:
        begin = coordinator_pb2.BeginLayerRequest(header=header, plan_sha256=plan.sha256())
        if client.ask(client.stub.BeginLayer, begin).resume_offset == header.total_bytes:
            return
        warn("layer_wanted", f"the coordinator has lost the layer of key {reference.epoch}: it is built and sent again")
        secret, key = site.vault.consortium_secret(plan.run_id), site.morph_key(reference.epoch)
        bring_layer(client, plan, key, reference, secret, site.keys, begin_basis(site, plan, reference.epoch)).unlink()
    except MpleError as refusal:
        warn("layer_not_brought", f"the coordinator's layer of key {reference.epoch} must be put back there: {refusal}")


def layer_file(state: Path, plan: RunPlan, key_ref: common_pb2.KeyRef) -> Path:
    """Where a layer lies until it is released."""
    number = "" if key_ref.epoch == plan.site(key_ref.site).key_epoch else f"-{key_ref.epoch}"
    return state / f"layer-{plan.run_id}{number}.safetensors"


def fetch_stem(client: CoordinatorClient, plan: RunPlan) -> Stem:
    """The plan's first convolution: drawn from its published seed, or fetched by its digest.

    Raises MpleError: STEM_REJECTED when what was drawn or fetched has another digest than the plan says.
    """
    offered = None
    try:
        if plan.model.stem_offered:
            request = coordinator_pb2.GetStemRequest(digest=bytes.fromhex(plan.stem_digest))
            response = client.ask(client.stub.GetStem, request)
            offered = Stem.from_safetensors(bytes(response.safetensors))
        stem = planned_stem(plan.model, filters=plan.filters, channels=plan.channels, offered=offered)
    except StemError as fault:
        raise MpleError(ErrorCode.STEM_REJECTED, str(fault)) from None
    if stem.digest().hex() != plan.stem_digest:
        raise MpleError(ErrorCode.STEM_REJECTED, f"the stem has digest {stem.digest().hex()[:16]}, the plan another")
    return stem


def _messages(path: Path, header: coordinator_pb2.LayerHeader, at: int) -> Iterator[coordinator_pb2.UploadLayerRequest]:
    sha256 = header.sha256  # in the first message only
    for chunk in chunks_of(path, at, header.total_bytes):
        yield coordinator_pb2.UploadLayerRequest(sha256=sha256, offset=chunk.offset, data=chunk.data, final=chunk.final)
        sha256 = b""
