"""Drawing cores: the secret blocks on the diagonal of M, with their inverses, in float64.

Legend: Q core side.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mple.morph.keys import MorphKey, gaussians, uniforms
from mple.morph.scheme import Cores, Ensemble, MorphScheme


@dataclass(frozen=True, slots=True)
class BlockCore:
    """One core and its inverse, float64 (Q, Q). The inverse of an orthogonal core is its transpose, no copy."""

    core_QQ: Tensor
    inverse_QQ: Tensor


def draw_core(
    key: MorphKey, scheme: MorphScheme, core_side: int, *, session: bytes, key_epoch: int, block: int
) -> BlockCore:
    """The core of one block.

    With identical cores every `block` gives the same. Orthogonal cores follow the Haar measure: QR of a Gaussian
    matrix with the signs of R's diagonal moved into Q (Mezzadri, 2007). Two machines may differ in the last bits.

    Raises ValueError: a uniform core is singular to working precision (practically never).
    """
    number = 0 if scheme.cores is Cores.IDENTICAL else block
    label = b"\0".join(
        [
            b"core",
            scheme.ensemble.encode(),
            len(session).to_bytes(4, "big") + session,
            b"%d" % key_epoch,
            b"%d" % number,
        ]
    )
    count = core_side * core_side
    if scheme.ensemble is Ensemble.UNIFORM:
        core_QQ = torch.from_numpy(uniforms(key.seed, label, count)).view(core_side, core_side)
        try:
            return BlockCore(core_QQ, torch.linalg.inv(core_QQ))
        except RuntimeError:
            raise ValueError(f"the core of block {number} is singular; rotate the morph key") from None
    gaussian_QQ = torch.from_numpy(gaussians(key.seed, label, count)).view(core_side, core_side)
    orthogonal_QQ, upper_QQ = torch.linalg.qr(gaussian_QQ)
    core_QQ = orthogonal_QQ * torch.sign(torch.diagonal(upper_QQ))
    return BlockCore(core_QQ, core_QQ.T)
