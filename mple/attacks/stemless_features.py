"""Pictures from feature maps without the stem: what the compute node sees of every picture, blindly undone.

A feature is a linear function of the p x p patch about its pixel. Patches that lie p - 1 rows and columns apart share
exactly one pixel. So whatever the stem and the order of its channels are, some combinations of the features at one
place equal some combinations of those p - 1 places farther down and right: canonical correlations of 1, as many as
pictures have channels, and the pair of combinations *is* the shared pixel, in mixed colours. That needs no public
picture and no layer. A stem of few features has several places taken together. Colours are then unmixed by what pixels
of public pictures have in common; at last, the stem that fits best gives all features a say in each pixel.

Beside it stand what eyes would take first: the smoothest single feature map, and the first principal component.

Legend: B pictures, F features, C channels, p kernel side, H W size, N places, D = C·p².
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mple.attacks.feature_maps import deconvolved
from mple.attacks.lab.adversary import ComputeNode
from mple.attacks.lab.attack import Attack, AttackSettings, DoesNotApplyError, Figure, Finding, RecoveredPictures
from mple.attacks.lab.run_views import COMPUTE_NODE
from mple.attacks.means.colour_fit import fit_colours
from mple.attacks.means.layer_blocks import features_of
from mple.attacks.means.opening import without_rounding
from mple.attacks.means.pixel_values import to_inputs, to_pixels
from mple.wire.codecs import codec_named

_MOST_TO_LEARN = 256
_LEAST_VARIANCE = 1e-6
_RIDGE = 1e-4
_EDGE_PX = 3
_WIDEST = 5
_LEAST_NOISE = 0.01
"""Of the refined pictures, in network inputs, where codes are exact."""


def run(view: ComputeNode, settings: AttackSettings) -> Finding:
    """Recover the first pictures from the products of layer and morphed pictures.

    Raises DoesNotApplyError: pictures are too small for two patches that share one pixel.
    """
    plan = view.plan
    window = window_for(plan.filters, channels=plan.channels, kernel=plan.model.kernel)
    reach = plan.model.kernel + window - 1
    if min(plan.height, plan.width) < 2 * reach + 2 * _EDGE_PX:
        raise DoesNotApplyError(f"pictures of {plan.height}x{plan.width} have too few patches that share one pixel")
    morphed, layer = view.sites[settings.site], view.layers[settings.site]
    count = max(settings.pictures, min(_MOST_TO_LEARN, len(morphed)))
    f_BFHW = features_of(layer, morphed.t_NKQ[:count])
    mixed_BCHW, correlations = shared_pixels(f_BFHW, channels=plan.channels, kernel=plan.model.kernel, window=window)
    first_BCHW = fit_colours(mixed_BCHW, to_inputs(view.public_PCHW, plan))
    numbers = morphed.numbers_N[: settings.pictures]
    stem_FCpp = fitted_stem(f_BFHW, first_BCHW, kernel=plan.model.kernel)
    refined_BCHW, _ = deconvolved(f_BFHW[: len(numbers)], stem_FCpp)
    clean_BCHW = without_rounding(
        refined_BCHW, view.public_PCHW, plan, max(codec_named(plan.wire.codec).rounding_deviation, _LEAST_NOISE)
    )
    smooth_BHW, best = smoothest_map(f_BFHW)
    ways = (
        ("smoothest single feature map", _as_grey(smooth_BHW, view.public_PCHW)),
        ("first principal component", _as_grey(first_component(f_BFHW), view.public_PCHW)),
        ("shared pixels", to_pixels(first_BCHW, plan.normalisation)),
        ("with a fitted stem", to_pixels(refined_BCHW, plan.normalisation)),
        ("rounding taken off", to_pixels(clean_BCHW, plan.normalisation)),
    )
    return Finding(
        recovered=tuple(
            RecoveredPictures(site=settings.site, numbers_N=numbers, pixels_NCHW=pixels[: len(numbers)], way=way)
            for way, pixels in ways
        ),
        figures=(
            Figure("feature map taken as smoothest", best),
            Figure("least correlation of a shared pixel's colours", round(correlations[plan.channels - 1], 5)),
            Figure("next correlation", round(correlations[plan.channels], 5)),
        ),
    )


def window_for(filters: int, *, channels: int, kernel: int) -> int:
    """Side of the smallest window of places whose features determine the patch that they see together."""
    window = 1
    while filters * window**2 < channels * (kernel + window - 1) ** 2:
        window += 1
        if window > _WIDEST:
            raise DoesNotApplyError(f"{filters} features of {channels}x{kernel}x{kernel} values determine no patch")
    return window


def shared_pixels(f_BFHW: Tensor, *, channels: int, kernel: int, window: int = 1) -> tuple[Tensor, list[float]]:
    """Pictures in mixed colours, (B, C, H, W), and the canonical correlations, falling. Edges that no pair of places
    shares are repeated from their neighbours."""
    reach = kernel + window - 1
    g_BDHW = _patch_coordinates(_windows(f_BFHW, window), channels * reach**2)
    apart = reach - 1
    height, width = g_BDHW.shape[2:]
    early = g_BDHW[:, :, : height - apart, : width - apart]
    late = g_BDHW[:, :, apart:, apart:]
    early_ND, late_ND = (part.permute(0, 2, 3, 1).flatten(0, 2).double() for part in (early, late))
    early_ND, late_ND = early_ND - early_ND.mean(0), late_ND - late_ND.mean(0)
    into_early, into_late = _whitening(early_ND), _whitening(late_ND)
    across = into_early.T @ (early_ND.T @ late_ND / len(early_ND)) @ into_late
    left, correlations, right = torch.linalg.svd(across)
    of_early, of_late = (into_early @ left[:, :channels]).float(), (into_late @ right[:channels].T).float()
    seen_early = torch.einsum("bdhw,dc->bchw", early, of_early)
    seen_late = torch.einsum("bdhw,dc->bchw", late, of_late)
    edge = kernel // 2 + window - 1
    mixed_BCHW = functional.pad((seen_early + seen_late) / 2, (edge,) * 4, mode="replicate")
    return mixed_BCHW, correlations.tolist()


def _windows(f_BFHW: Tensor, window: int) -> Tensor:
    """Features of all places of a window side by side."""
    height, width = (size - window + 1 for size in f_BFHW.shape[2:])
    shifted = [f_BFHW[:, :, i : i + height, j : j + width] for i in range(window) for j in range(window)]
    return torch.cat(shifted, dim=1)


def fitted_stem(f_BFHW: Tensor, x_BCHW: Tensor, *, kernel: int) -> Tensor:
    """The kernels (F, C, p, p) under which pictures explain features best, edges left aside."""
    channels, (height, width) = x_BCHW.shape[1], x_BCHW.shape[2:]
    patches_BDL = functional.unfold(x_BCHW, kernel, padding=kernel // 2)
    inner = slice(_EDGE_PX, -_EDGE_PX)
    rows_ND = patches_BDL.view(len(x_BCHW), -1, height, width)[:, :, inner, inner].permute(0, 2, 3, 1).flatten(0, 2)
    found_NF = f_BFHW[:, :, inner, inner].permute(0, 2, 3, 1).flatten(0, 2)
    gram_DD, across_DF = (rows_ND.T @ rows_ND).double(), (rows_ND.T @ found_NF).double()
    ridge_DD = _RIDGE * gram_DD.diag().mean() * torch.eye(len(gram_DD), dtype=torch.float64)
    stem_DF: Tensor = torch.linalg.solve(gram_DD + ridge_DD, across_DF)
    return stem_DF.T.float().reshape(-1, channels, kernel, kernel)


def smoothest_map(f_BFHW: Tensor) -> tuple[Tensor, int]:
    """The feature whose neighbours are most alike, (B, H, W), and its place."""
    centred = f_BFHW - f_BFHW.mean((0, 2, 3), keepdim=True)
    power_F = centred.square().mean((0, 2, 3))
    steps_F = (centred.diff(dim=2).square().mean((0, 2, 3)) + centred.diff(dim=3).square().mean((0, 2, 3))) / power_F
    best = int(steps_F.argmin())
    return centred[:, best], best


def first_component(f_BFHW: Tensor) -> Tensor:
    """The combination of features of the largest variance, (B, H, W)."""
    centred = f_BFHW - f_BFHW.mean((0, 2, 3), keepdim=True)
    rows_NF = centred.permute(0, 2, 3, 1).flatten(0, 2)
    _, vectors = torch.linalg.eigh(rows_NF.T @ rows_NF)
    map_BHW: Tensor = torch.einsum("bfhw,f->bhw", centred, vectors[:, -1])
    return map_BHW


def _as_grey(map_BHW: Tensor, public_PCHW: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A map as a grey picture with mean and contrast of public ones; upright by skewness."""
    public = public_PCHW.astype(np.float64).mean(1)
    centred = (map_BHW - map_BHW.mean()) / map_BHW.std()
    skew = float((centred**3).mean()) * float(((public - public.mean()) ** 3).mean())
    grey_BHW = np.clip(public.mean() + (np.sign(skew) or 1) * public.std() * centred.numpy(), 0, 255)
    return np.repeat(grey_BHW[:, None].astype(np.float32), public_PCHW.shape[1], axis=1)


def _patch_coordinates(f_BFHW: Tensor, values: int) -> Tensor:
    """The D leading components of features, (B, D, H, W): all that a patch's values can reach."""
    rows_NF = f_BFHW.permute(0, 2, 3, 1).flatten(0, 2)
    _, vectors = torch.linalg.eigh((rows_NF.T @ rows_NF).double() / len(rows_NF))
    return torch.einsum("bfhw,fd->bdhw", f_BFHW, vectors[:, -values:].float())


def _whitening(rows_ND: Tensor) -> Tensor:
    variance, vectors = torch.linalg.eigh(rows_ND.T @ rows_ND / len(rows_ND))
    into: Tensor = vectors / variance.clamp(min=float(variance[-1]) * _LEAST_VARIANCE).sqrt()
    return into


ATTACK = Attack.by(
    name="stemless-features",
    adversary=COMPUTE_NODE,
    claim="recovers pictures from feature maps alone, without stem, order of channels or key",
    run=run,
)
