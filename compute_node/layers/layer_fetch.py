"""Fetching released layers from the coordinator: resumable, checked by digest, read into the bank.

A list beside the layers says which of them belong to the run, so that they can be used again without a coordinator;
see `compute_node.layers.restore`.
"""

from __future__ import annotations

import logging
from pathlib import Path

from compute_node.layers.layer_bank import LayerBank
from compute_node.layers.restore import layer_path, read_listed
from mple.audit import audit
from mple.disk.whole_files import put_in_place
from mple.node.coordinator_client import CoordinatorClient
from mple.node.logs import log
from mple.plan import RunPlan
from mple.rpc import ErrorCode, MpleError
from mple.v1 import coordinator_pb2
from mple.wire.layer_file import LayerFileError, file_sha256

_LOGGER = logging.getLogger("mple.compute")
_STREAM_TIMEOUT_S = 3600.0
_ATTEMPTS = 3


def fetch_layer(
    client: CoordinatorClient, header: coordinator_pb2.LayerHeader, plan: RunPlan, bank: LayerBank, folder: Path
) -> None:
    """Have a released layer in the bank; bytes that an earlier attempt left are kept and gone on from.

    Where the key has been revoked meanwhile there is no layer to be had any more; the bank then refuses the key.

    Raises:
        MpleError: LAYER_DIGEST_MISMATCH or LAYER_REJECTED when what came is not what was announced.
    """
    site = header.key_ref.site
    if bank.refused(header.key_ref):
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = layer_path(folder, header.sha256)
    if not path.exists():
        part = path.with_suffix(".part")
        try:
            _download_whole(client, header, part)
        except MpleError as refusal:
            if refusal.code is not ErrorCode.UNKNOWN_KEY_REF:
                raise
            bank.refuse(header.key_ref)
            part.unlink(missing_ok=True)
            text = f"the coordinator has no layer of key {header.key_ref.epoch} of {site} any more: {refusal.detail}"
            log(_LOGGER, logging.WARNING, "layer_withheld", text, site=site)
            return
        put_in_place(part, path)
    try:
        bank.store(header.key_ref, read_listed(path, plan))
    except LayerFileError as fault:
        raise MpleError(ErrorCode.LAYER_REJECTED, str(fault)) from None
    audit("local", "layer_fetched", "ok", site=site, epoch=header.key_ref.epoch, sha256=header.sha256.hex())
    log(_LOGGER, logging.INFO, "layer_stored", f"holds the layer of {site}", site=site, epoch=header.key_ref.epoch)


def _download_whole(client: CoordinatorClient, header: coordinator_pb2.LayerHeader, part: Path) -> None:
    for _ in range(_ATTEMPTS):
        client.retry.call(lambda: _download(client, header, part))
        if file_sha256(part) == header.sha256:
            return
        part.unlink()  # what an earlier process left may be torn: all of it once more
    raise MpleError(ErrorCode.LAYER_DIGEST_MISMATCH, f"layer of {header.key_ref.site} came with other bytes")


def _download(client: CoordinatorClient, header: coordinator_pb2.LayerHeader, part: Path) -> None:
    with part.open("ab") as file:
        at = file.tell()
        if at > header.total_bytes:
            file.truncate(0)
            at = 0
        request = coordinator_pb2.DownloadLayerRequest(sha256=header.sha256, offset=at)
        final = at == header.total_bytes
        if final:
            return
        for chunk in client.stub.DownloadLayer(request, timeout=_STREAM_TIMEOUT_S):
            if final or chunk.offset != at or at + len(chunk.data) > header.total_bytes:
                raise MpleError(ErrorCode.LAYER_OFFSET, f"layer chunk at {chunk.offset}, expected {at}")
            file.write(chunk.data)
            at, final = at + len(chunk.data), chunk.final
    if not final or at != header.total_bytes:
        raise MpleError(ErrorCode.STREAM_TRUNCATED, f"layer download ended at byte {at} of {header.total_bytes}")
