"""Fetching released layers from the coordinator: resumable, checked by digest, read into the bank.

A list beside the layers says which of them belong to the run, so that they can be used again without a coordinator;
see `mple.records.layer_list`.
"""

from pathlib import Path

from compute_node.layers.key_bases import store_layer
from compute_node.layers.layer_bank import LayerBank
from mple.audit import audit
from mple.disk.private import make_private
from mple.disk.scarcity import patiently
from mple.node.coordinator_client import CoordinatorClient
from mple.node.logs import log, warn
from mple.plan import RunPlan
from mple.records.layer_list import layer_path, whole_layer
from mple.rpc import ErrorCode, MpleError
from mple.rpc.file_transfer import ChunkFile, remove_file, while_torn
from mple.v1 import coordinator_pb2
from mple.wire.basis_file import BasisFileError
from mple.wire.coding import CodingError
from mple.wire.layer_file import LayerFileError

_STREAM_TIMEOUT_S = 3600.0


def fetch_layer(
    client: CoordinatorClient, header: coordinator_pb2.LayerHeader, plan: RunPlan, bank: LayerBank, folder: Path
) -> None:
    """Have a released layer in the bank; bytes that an earlier attempt left are kept and gone on from.

    Where the key has been revoked meanwhile there is no layer to be had any more; the bank then refuses the key.

    Raises MpleError: FILE_DIGEST_MISMATCH, LAYER_REJECTED or FILE_OFFSET when what came is not what was announced,
    STREAM_TRUNCATED when the end of it did not come.
    """
    site = header.key_ref.site
    if bank.refused(header.key_ref):
        return
    make_private(folder)
    path = layer_path(folder, header.sha256)
    if whole_layer(folder, header.sha256) is None:
        if path.exists():
            path.unlink()
            warn("layer_damaged", f"{path} is damaged: its digest is another; it is fetched again", site=site)
        try:
            file = ChunkFile(path, header.total_bytes, header.sha256)
            while_torn(lambda: client.retry.call(lambda: _download(client, header, path), lambda: file.present))
        except MpleError as refusal:
            if refusal.code is not ErrorCode.UNKNOWN_KEY_REF:
                raise
            bank.refuse(header.key_ref)
            remove_file(path)
            text = f"the coordinator has no layer of key {header.key_ref.epoch} of {site} any more: {refusal.detail}"
            warn("layer_withheld", text, site=site)
            return
    try:
        patiently(lambda: store_layer(bank, plan, header.key_ref, path, folder))
    except (LayerFileError, CodingError, BasisFileError) as fault:
        raise MpleError(ErrorCode.LAYER_REJECTED, str(fault)) from None
    audit("local", "layer_fetched", "ok", site=site, epoch=header.key_ref.epoch, sha256=header.sha256.hex())
    log("layer_stored", f"holds the layer of {site}", site=site, epoch=header.key_ref.epoch)


def _download(client: CoordinatorClient, header: coordinator_pb2.LayerHeader, path: Path) -> None:
    file = ChunkFile(path, header.total_bytes, header.sha256)
    request = coordinator_pb2.DownloadLayerRequest(sha256=header.sha256, offset=file.present)
    for chunk in client.stub.DownloadLayer(request, timeout=_STREAM_TIMEOUT_S):
        file.take(chunk.offset, chunk.data, chunk.final)
    file.finish()
