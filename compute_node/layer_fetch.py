"""Fetching released layers from the coordinator: resumable, checked by digest, read into the bank.

A list beside the layers says which of them belong to the run, so that they can be used again without a coordinator.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from compute_node.layer_bank import LayerBank
from mple.morph import AugmentedLayer
from mple.node.coordinator_line import CoordinatorLine
from mple.node.logs import log
from mple.plan import RunPlan
from mple.rpc import ErrorCode, MpleError
from mple.v1 import common_pb2, coordinator_pb2
from mple.wire import LayerFileError, read_layer
from mple.wire.layer_file import file_sha256

_LOGGER = logging.getLogger("mple.compute")
_STREAM_TIMEOUT_S = 3600.0
_LIST = "run.json"


def fetch_layer(
    line: CoordinatorLine, header: coordinator_pb2.LayerHeader, plan: RunPlan, bank: LayerBank, folder: Path
) -> None:
    """Have a released layer in the bank; bytes that an earlier attempt left are kept and gone on from.

    Raises:
        MpleError: LAYER_DIGEST_MISMATCH or LAYER_REJECTED when what came is not what was announced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = _path(folder, header.sha256)
    if not path.exists():
        part = path.with_suffix(".part")
        line.persistence.call(lambda: _download(line, header, part))
        if file_sha256(part) != header.sha256:
            part.unlink()
            raise MpleError(ErrorCode.LAYER_DIGEST_MISMATCH, f"layer of {header.key_ref.site} came with other bytes")
        os.replace(part, path)
    try:
        bank.store(header.key_ref, _read(path, plan))
    except LayerFileError as fault:
        raise MpleError(ErrorCode.LAYER_REJECTED, str(fault)) from None
    log(_LOGGER, logging.INFO, "layer_stored", f"holds the layer of {header.key_ref.site}", site=header.key_ref.site)


def list_layers(folder: Path, plan: RunPlan, digests: Mapping[str, bytes]) -> None:
    """Write down which layers belong to a plan: their SHA-256 by site."""
    about = {"plan_sha256": plan.sha256().hex(), "layers": {site: digest.hex() for site, digest in digests.items()}}
    temporary = folder / f"{_LIST}.part"
    temporary.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, folder / _LIST)


def listed_layers(folder: Path, plan: RunPlan) -> LayerBank:
    """All layers of a plan as `list_layers` noted them.

    Raises:
        ValueError: The list is missing, damaged or another plan's, or a layer's file is missing or damaged.
    """
    try:
        about = json.loads((folder / _LIST).read_text(encoding="utf-8"))
        theirs = about["plan_sha256"]
        digests = {site.name: bytes.fromhex(about["layers"][site.name]) for site in plan.sites}
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise ValueError(f"{folder / _LIST} does not list this plan's layers: {fault!r}") from None
    if theirs != plan.sha256().hex():
        raise ValueError(f"{folder / _LIST} lists the layers of plan {theirs[:16]}, not of {plan.sha256().hex()[:16]}")
    bank = LayerBank(plan)
    for site in plan.sites:
        path = _path(folder, digests[site.name])
        if not path.is_file() or file_sha256(path) != digests[site.name]:
            raise ValueError(f"the layer of site {site.name} in {path} is missing or damaged")
        fingerprint = bytes.fromhex(site.key_fingerprint)
        key_ref = common_pb2.KeyRef(site=site.name, epoch=site.key_epoch, fingerprint=fingerprint)
        bank.store(key_ref, _read(path, plan))
    return bank


def _path(folder: Path, digest: bytes) -> Path:
    return folder / f"{digest.hex()}.safetensors"


def _read(path: Path, plan: RunPlan) -> AugmentedLayer:
    return read_layer(
        path, scheme=plan.morph.scheme(), image=plan.image, filters=plan.filters, kernel=plan.model.kernel
    )


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
