"""Looking at a layer before it is released, without any key: shape, finiteness, norm, agreement with other sites'.

What it can't see is stated in `mple.morph.verify`.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from mple.morph import (
    CONSISTENCY_TOLERANCE,
    Ensemble,
    consistency_response,
    expected_weight_shape,
    layer_faults,
    response_deviation,
)
from mple.node.logs import log
from mple.model import Stem
from mple.plan import RunPlan
from mple.rpc import ErrorCode, MpleError
from mple.wire import LayerFileError, read_layer

_LOGGER = logging.getLogger("mple.coordinator")
_HEADER_ALLOWANCE_BYTES = 4096


def check_size(plan: RunPlan, total_bytes: int) -> None:
    """Refuse a declared size that no layer of this plan has.

    Raises:
        MpleError: LAYER_REJECTED.
    """


    values = int(np.prod(expected_weight_shape(plan.morph.scheme(), plan.image, plan.filters, plan.model.kernel)))
    if not 4 * values < total_bytes <= 4 * values + _HEADER_ALLOWANCE_BYTES:
        raise MpleError(
            ErrorCode.LAYER_REJECTED, f"a layer of {total_bytes} bytes; this plan's have {4 * values} and a header"
        )


def review(path: Path, site: str, plan: RunPlan, stem: Stem, released: Mapping[str, bytes]) -> bytes:
    """Check a layer and return its consistency response, empty where there is none.

    Args:
        path: The layer's file.
        site: Whose it is.
        plan: The run's.
        stem: The plan's.
        released: Responses of layers released before, by site.

    Raises:
        MpleError: LAYER_REJECTED with what is wrong.
    """
    try:
        layer = read_layer(
            path, scheme=plan.morph.scheme(), image=plan.image, filters=plan.filters, kernel=plan.model.kernel
        )
    except LayerFileError as fault:
        raise MpleError(ErrorCode.LAYER_REJECTED, str(fault)) from None
    faults = layer_faults(layer, stem.kernels_FCpp)
    if faults:
        raise MpleError(ErrorCode.LAYER_REJECTED, f"{site}: {faults[0]}")
    if layer.scheme.ensemble is not Ensemble.ORTHOGONAL:
        log(_LOGGER, logging.WARNING, "layer_unchecked", f"{site}: uniform cores, norm and consistency can't be checked")
        return b""
    response = consistency_response(layer, hashlib.sha256(b"probe\0" + plan.session).digest())
    for other, kept in released.items():
        first = torch.from_numpy(np.frombuffer(kept, "<f8").copy()).view(response.shape)
        deviation = response_deviation(first, response)
        if deviation > CONSISTENCY_TOLERANCE:
            raise MpleError(
                ErrorCode.LAYER_REJECTED,
                f"the layers of {site} and {other} deviate by {deviation:.1e}: one was made with another stem, channel "
                "order or key; the one that came first stays",
            )
    return response.numpy().astype("<f8").tobytes()
