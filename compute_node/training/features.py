"""From decoded samples to the features of the first convolution, for samples of many sites at once.

Samples are put together by their key, each layer writes the features of its own ones side by side into one tensor, and
that is put into the order of the samples: however many sites there are, features are moved once.

Legend: B samples, K blocks, Q core side, F filters, H W size.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compute_node.layers.layer_bank import ErasedKeyError
from mple.model.first_layer.prepared import PreparedLayer, fill_side_by_side


def features(t_BKQ: Tensor, keys_B: NDArray[np.int64], layers: Mapping[int, PreparedLayer]) -> Tensor:
    """Apply to each sample the augmented layer of the key it was morphed under.

    Args:
        t_BKQ: Morphed samples.
        keys_B: Number of each sample's key.
        layers: By the number of their key.

    Returns:
        f_BFHW in the order of `t_BKQ`, channels in the run's channel order, channels last, in the layers' dtype.

    Raises ErasedKeyError: a key has no layer any more: it was revoked since the samples were read.
    """
    keys, counts = np.unique(keys_B, return_counts=True)
    if not len(keys):
        raise ValueError("no samples to make features of")
    used = [_layer(layers, key) for key in keys.tolist()]
    if len(used) == 1:
        return used[0].apply(t_BKQ)
    image, device = used[0].image_shape, used[0].device
    by_key_B = torch.from_numpy(np.argsort(keys_B, kind="stable"))
    t_BKQ = device.place(t_BKQ).index_select(0, device.place(by_key_B))
    f_BHWF = used[0].empty(len(t_BKQ), image.height, image.width)
    fill_side_by_side(f_BHWF, t_BKQ, used, counts.tolist())
    return f_BHWF.index_select(0, device.place(torch.argsort(by_key_B))).permute(0, 3, 1, 2)


def _layer(layers: Mapping[int, PreparedLayer], key: int) -> PreparedLayer:
    try:
        return layers[key]
    except KeyError:
        raise ErasedKeyError(f"key number {key} is revoked") from None
