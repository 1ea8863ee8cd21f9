"""From cached codes to the features of the first convolution, for samples of many sites at once.

Legend: B samples, K blocks, Q core side, F filters, H W size.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compute_node.layer_bank import ErasedKeyError
from compute_node.sample_cache import CachedSamples
from mple.morph import AugmentedLayer, MorphGeometry
from mple.wire import Codec


def features(
    samples: CachedSamples, layers: dict[int, AugmentedLayer], codec: Codec, geometry: MorphGeometry
) -> Tensor:
    """Decode samples and apply to each the augmented layer of the key it was morphed under.

    Args:
        samples: As they came over the wire.
        layers: By the number of their key.
        codec: The plan's.
        geometry: Blocks and core side of the plan.

    Returns:
        f_BFHW in the order of `samples`, channels in the run's channel order.

    Raises:
        ErasedKeyError: A key has no layer any more: it was revoked since the samples were read.
    """
    t_BKQ = codec.decode(samples.coded).view(-1, geometry.blocks, geometry.core_side)
    keys = np.unique(samples.keys_B)
    if len(keys) == 1:
        return _layer(layers, int(keys[0])).apply(t_BKQ)
    f_BFHW: Tensor | None = None
    for key in keys:
        rows = torch.from_numpy(_rows(samples.keys_B, int(key)))
        part = _layer(layers, int(key)).apply(t_BKQ[rows])
        if f_BFHW is None:
            shape = (len(samples.keys_B), *part.shape[1:])
            like_part = torch.channels_last
            if not part.is_contiguous(memory_format=like_part):
                like_part = torch.contiguous_format
            f_BFHW = torch.empty(shape, dtype=part.dtype, memory_format=like_part)
        f_BFHW[rows] = part
    if f_BFHW is None:
        raise ValueError("no samples to make features of")
    return f_BFHW


def _layer(layers: dict[int, AugmentedLayer], key: int) -> AugmentedLayer:
    try:
        return layers[key]
    except KeyError:
        raise ErasedKeyError(f"key number {key} is revoked") from None


def _rows(keys_B: NDArray[np.int64], key: int) -> NDArray[np.int64]:
    return np.flatnonzero(keys_B == key)
