"""The first layer of plain training, which morphed training is compared with.

Legend: B samples, C channels, F filters, H W size.
"""

import torch
from torch import Tensor
from torch.nn import functional

from mple.model.stem import Stem


def plain_features(stem: Stem, x_BCHW: Tensor) -> Tensor:
    """Features f_BFHW of plain images, in the stem's own channel order, channels last as the trunk trains fastest."""
    kernels = torch.from_numpy(stem.kernels_FCpp).to(x_BCHW.device, x_BCHW.dtype, memory_format=torch.channels_last)
    f_BFHW = functional.conv2d(x_BCHW, kernels, padding=stem.kernel // 2)
    return f_BFHW.contiguous(memory_format=torch.channels_last)
