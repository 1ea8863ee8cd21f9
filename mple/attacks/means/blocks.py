"""Pictures and their blocks as tensors of torch, in which attacks compute; `mple.morph` has arrays.

Legend: N pictures, C channels, H W size, K blocks, Q core side.
"""

import numpy as np
import torch
from torch import Tensor

from mple.morph.morpher import from_blocks, to_blocks
from mple.plan import RunPlan


def blocks_of(x_NCHW: Tensor, plan: RunPlan) -> Tensor:
    """Pictures cut into the plan's blocks x_NKQ."""
    return torch.from_numpy(to_blocks(x_NCHW.numpy(), plan.morph.scheme(), plan.geometry))


def pictures_of(x_NKQ: Tensor, plan: RunPlan) -> Tensor:
    """Blocks put back together, x_NCHW; undoes `blocks_of`."""
    whole = from_blocks(x_NKQ.numpy(), plan.morph.scheme(), plan.geometry, plan.image)
    return torch.from_numpy(np.ascontiguousarray(whole))
