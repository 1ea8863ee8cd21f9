"""Fetching released layers from the coordinator: resumable, checked by digest, read into the bank."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from compute_node.layer_bank import LayerBank
from mple.node.coordinator_line import CoordinatorLine
from mple.node.logs import log
from mple.plan import RunPlan
from mple.rpc import ErrorCode, MpleError
from mple.v1 import coordinator_pb2
from mple.wire import LayerFileError, read_layer
from mple.wire.layer_file import file_sha256

_LOGGER = logging.getLogger("mple.compute")
_STREAM_TIMEOUT_S = 3600.0


def fetch_layer(
    line: CoordinatorLine, header: coordinator_pb2.LayerHeader, plan: RunPlan, bank: LayerBank, folder: Path
) -> None:
    """Have a released layer in the bank; bytes that an earlier attempt left are kept and gone on from.

    Raises:
        MpleError: LAYER_DIGEST_MISMATCH or LAYER_REJECTED when what came is not what was announced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{header.sha256.hex()}.safetensors"
    if not path.exists():
        part = path.with_suffix(".part")
        line.persistence.call(lambda: _download(line, header, part))
        if file_sha256(part) != header.sha256:
            part.unlink()
            raise MpleError(ErrorCode.LAYER_DIGEST_MISMATCH, f"layer of {header.key_ref.site} came with other bytes")
        os.replace(part, path)
    try:
        layer = read_layer(
            path, scheme=plan.morph.scheme(), image=plan.image, filters=plan.filters, kernel=plan.model.kernel
        )
    except LayerFileError as fault:
        raise MpleError(ErrorCode.LAYER_REJECTED, str(fault)) from None
    bank.store(header.key_ref, layer)
    log(_LOGGER, logging.INFO, "layer_stored", f"holds the layer of {header.key_ref.site}", site=header.key_ref.site)


def _download(line: CoordinatorLine, header: coordinator_pb2.LayerHeader, part: Path) -> None:
    with part.open("ab") as file:
        at = file.tell()
        request = coordinator_pb2.DownloadLayerRequest(sha256=header.sha256, offset=at)
        final = at == header.total_bytes
        if final:
            return
        for chunk in line.stub.DownloadLayer(request, timeout=_STREAM_TIMEOUT_S):
            if final or chunk.offset != at or at + len(chunk.data) > header.total_bytes:
                raise MpleError(ErrorCode.LAYER_OFFSET, f"layer chunk at {chunk.offset}, expected {at}")
            file.write(chunk.data)
            at, final = at + len(chunk.data), chunk.final
    if not final or at != header.total_bytes:
        raise MpleError(ErrorCode.STREAM_TRUNCATED, f"layer download ended at byte {at} of {header.total_bytes}")
