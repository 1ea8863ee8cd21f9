"""Morphed pictures back to pixels, where the cores are known: first as they are, then with what pictures look like.

Codes are rounded, and an orthogonal core makes of that a white noise of known strength. Public pictures tell how strong
the directions of a small patch are; a patch is taken as Gaussian with this covariance times an unknown contrast (a
Gaussian scale mixture: Portilla, Strela, Wainwright & Simoncelli, 2003), and the posterior mean over all contrasts,
averaged over overlapping patches, is the guess.

Legend: N pictures, C channels, H W size, K blocks, Q core side, L patches, D values of a patch, S contrasts.
"""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mple.attacks.lab.adversary import MorphedPictures
from mple.attacks.lab.attack import RecoveredPictures
from mple.attacks.means.blocks import blocks_of, pictures_of
from mple.attacks.means.pixel_values import to_inputs, to_pixels
from mple.morph import Ensemble
from mple.plan import RunPlan
from mple.wire.codecs import codec_named

AS_OPENED = "as opened"
"""Name of the way of pictures with whatever rounding is on them."""
ROUNDING_OFF = "rounding taken off"
_PATCH, _STRIDE = 8, 2
_CONTRASTS = 2.0 ** np.arange(-10, 5)
"""Variances of a patch against the mean one."""
_MOST_PUBLIC = 2000
_AT_ONCE = 128


def open_pictures(t_NKQ: Tensor, inverse_KQQ: Tensor, plan: RunPlan) -> Tensor:
    """Network inputs x_NCHW, float32, of morphed blocks under known cores (1 or K of them)."""
    inverse = inverse_KQQ.float() if float(inverse_KQQ.abs().max()) < 1e3 else inverse_KQQ
    t = t_NKQ.to(inverse.dtype)
    x_NKQ = t @ inverse[0] if len(inverse) == 1 else torch.bmm(t.transpose(0, 1), inverse).transpose(0, 1)
    return pictures_of(x_NKQ, plan).float()


def opened_ways(
    t_NKQ: Tensor, inverse_KQQ: Tensor, public_PCHW: NDArray[np.uint8], plan: RunPlan
) -> list[tuple[str, Tensor]]:
    """Network inputs x_NCHW of morphed blocks under known cores: as opened, and with the codes' rounding taken off."""
    x_NCHW = open_pictures(t_NKQ, inverse_KQQ, plan)
    deviation = codec_named(plan.wire.codec).rounding_deviation
    if not deviation or not len(public_PCHW):
        return [(AS_OPENED, x_NCHW)]
    if plan.morph.scheme().ensemble is Ensemble.ORTHOGONAL:
        return [(AS_OPENED, x_NCHW), (ROUNDING_OFF, without_rounding(x_NCHW, public_PCHW, plan, deviation))]
    return [(AS_OPENED, x_NCHW), (ROUNDING_OFF, _by_covariance(t_NKQ, inverse_KQQ, public_PCHW, plan))]


def _by_covariance(t_NKQ: Tensor, inverse_KQQ: Tensor, public_PCHW: NDArray[np.uint8], plan: RunPlan) -> Tensor:
    """The posterior mean for Gaussian pictures, where an ill-conditioned core makes anything but white of the rounding.
    The step of each block is worked out from its largest value, as the codec chooses it."""
    peak_NK = t_NKQ.abs().amax(2).double().numpy()
    step_NK = torch.from_numpy(codec_named(plan.wire.codec).rounding_steps(peak_NK))
    x_PKQ = blocks_of(to_inputs(public_PCHW[:_MOST_PUBLIC], plan), plan).double()
    mean_KQ, kept = x_PKQ.mean(0), torch.empty_like(t_NKQ)
    for block in range(t_NKQ.shape[1]):
        core_QQ = torch.linalg.inv(inverse_KQQ[block % len(inverse_KQQ)])
        centred_PQ = x_PKQ[:, block] - mean_KQ[block]
        prior_QQ = centred_PQ.T @ centred_PQ / len(centred_PQ)
        prior_QQ.diagonal().add_(1e-3 * float(prior_QQ.diagonal().mean()))
        through_QQ = core_QQ.T @ prior_QQ
        seen_QQ = through_QQ @ core_QQ
        seen_QQ.diagonal().add_(float(step_NK[:, block].square().mean()) / 12)
        beyond_NQ = t_NKQ[:, block].double() - mean_KQ[block] @ core_QQ
        kept[:, block] = (beyond_NQ @ torch.linalg.solve(seen_QQ, through_QQ) + mean_KQ[block]).float()
    return pictures_of(kept, plan)


def recovered_pictures(
    morphed: MorphedPictures, ways: Iterable[tuple[str, Tensor]], plan: RunPlan
) -> tuple[RecoveredPictures, ...]:
    """The first pictures of a site as pixels, once for each way: its name, and the network inputs x_NCHW it gave."""
    return tuple(
        RecoveredPictures(
            site=morphed.site,
            numbers_N=morphed.numbers_N[: len(x_NCHW)],
            pixels_NCHW=to_pixels(x_NCHW, plan.normalisation),
            way=way,
        )
        for way, x_NCHW in ways
    )


def without_rounding(x_NCHW: Tensor, public_PCHW: NDArray[np.uint8], plan: RunPlan, deviation: float) -> Tensor:
    """The posterior mean of pictures x that bear white noise.

    Args:
        x_NCHW: Network inputs with noise.
        public_PCHW: Pictures of the same kind.
        plan: The run's plan.
        deviation: Of the noise, in network inputs.
    """
    side = min(_PATCH, *x_NCHW.shape[2:])
    public_PCHW = public_PCHW[:_MOST_PUBLIC]
    public_LD = _patches(to_inputs(public_PCHW, plan), side, side)
    mean_D = public_LD.mean(0)
    centred = (public_LD - mean_D).double()
    variance_D, directions_DD = torch.linalg.eigh(centred.T @ centred / len(centred))
    prior = (mean_D, variance_D.clamp_min(0).float(), directions_DD.float())
    parts = [_denoised(x_NCHW[low : low + _AT_ONCE], side, prior, deviation) for low in range(0, len(x_NCHW), _AT_ONCE)]
    return torch.cat(parts)


def _denoised(x_NCHW: Tensor, side: int, prior: tuple[Tensor, Tensor, Tensor], deviation: float) -> Tensor:
    mean_D, variance_D, directions_DD = prior
    wide_NCHW = functional.pad(x_NCHW, (side - _STRIDE,) * 4, mode="reflect")
    seen_LD = (_patches(wide_NCHW, side, _STRIDE) - mean_D) @ directions_DD
    spread_SD = torch.from_numpy(_CONTRASTS).float()[:, None] * variance_D
    total_SD = spread_SD + deviation**2
    energy_LS = seen_LD.square() @ (1 / total_SD).T
    weight_LS = torch.softmax(-0.5 * (energy_LS + total_SD.log().sum(1)), dim=1)
    kept_LD = (seen_LD * (weight_LS @ (spread_SD / total_SD))) @ directions_DD.T + mean_D
    size = wide_NCHW.shape[2:]
    stacked_NDL = kept_LD.view(len(x_NCHW), -1, kept_LD.shape[1]).transpose(1, 2)
    total = functional.fold(stacked_NDL, size, side, stride=_STRIDE)
    times = functional.fold(torch.ones_like(stacked_NDL[:1]), size, side, stride=_STRIDE)
    edge = side - _STRIDE
    return (total / times)[:, :, edge : edge + x_NCHW.shape[2], edge : edge + x_NCHW.shape[3]]


def _patches(x_NCHW: Tensor, side: int, stride: int) -> Tensor:
    """All patches (L, D), picture by picture."""
    return functional.unfold(x_NCHW, side, stride=stride).transpose(1, 2).flatten(0, 1)
