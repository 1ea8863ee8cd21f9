"""Where in a picture a network sees evidence for a class: Grad-CAM (Selvaraju et al., 2017), without gradients. Pure.

The network ends with a pool of 2 x 2 positions, the mean over what is left, and a linear layer. The derivative of class
c's logit by a position of map f before that pool is w_cf / P where the position is the greatest of its pool, P pools in
all, and 0 elsewhere; each pool has one such position. Grad-CAM weighs map f by the mean of its derivatives over the
positions Z: (P · w_cf / P) / Z = w_cf / Z. A test holds this against torch's own gradients.

Legend: B pictures, C classes, K of them, F maps, H W sides of a map.
"""

import numpy as np
from numpy.typing import NDArray


def class_maps(
    maps_BFHW: NDArray[np.float32], weight_CF: NDArray[np.float32], classes_BK: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Evidence (B, K, H, W) for some classes of each picture: the weighted sum of the last stage's maps, 0 where it is
    negative. Only its places count, not its size: scale it by its own greatest value to see it."""
    positions = maps_BFHW.shape[2] * maps_BFHW.shape[3]
    weights_BKF = weight_CF[classes_BK] / positions
    evidence_BKHW: NDArray[np.float32] = np.einsum("bkf,bfhw->bkhw", weights_BKF, maps_BFHW).astype(np.float32)
    return np.maximum(evidence_BKHW, 0)
