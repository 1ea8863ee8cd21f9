"""Stem known: every picture from its feature maps alone, without key and without the layer's rows.

Whoever trains has the features t·A = conv(x)·P in memory. Their channel order falls to the same leverage as the
layer's: at every position the features of many pictures span what the stem's kernels span, whatever the pictures. Then
each picture is the least-squares solution of conv(x)·P = f, found by conjugate gradients, for any size of picture.

Legend: N pictures, C channels, H W size, F filters, p kernel side.
"""

import torch
from torch import Tensor
from torch.nn import functional

from mple.attacks.lab.adversary import ComputeNodeWithStem
from mple.attacks.lab.attack import Attack, AttackSettings, Figure, Finding
from mple.attacks.lab.run_views import COMPUTE_NODE_WITH_STEM
from mple.attacks.means.channel_leverage import order_by_leverage
from mple.attacks.means.layer_blocks import LayerBlock, features_of
from mple.attacks.means.opening import AS_OPENED, ROUNDING_OFF, recovered_pictures, without_rounding
from mple.morph import Ensemble
from mple.wire.codecs import codec_named

_LEAST_WATCHED = 256
"""Pictures whose features are looked at for the order; fewer than a kernel has values would not span what it does."""
_MOST_STEPS = 200
_TOLERANCE = 1e-4
"""Norm of what is left of the normal equations, against their right side."""


def run(view: ComputeNodeWithStem, settings: AttackSettings) -> Finding:
    """Forget the layer once it has been applied, as a trainer's memory has it."""
    morphed, plan, kernels_FCpp = view.sites[settings.site], view.plan, torch.from_numpy(view.stem.kernels_FCpp)
    watched = max(settings.pictures, _LEAST_WATCHED)
    f_NFHW = features_of(view.layers[settings.site], morphed.t_NKQ[:watched])
    image = plan.image
    seen = LayerBlock(
        core=0,
        rows_QFIJ=f_NFHW,
        pixels_CRS=torch.ones((image.channels, image.height, image.width), dtype=torch.bool),
        padding=view.stem.kernel // 2,
    )
    guess = order_by_leverage([seen], kernels_FCpp)
    f_NFHW = f_NFHW[: settings.pictures]
    x_NCHW, steps = deconvolved(f_NFHW, kernels_FCpp[torch.from_numpy(guess.order_F)])
    unexplained = (functional.conv2d(x_NCHW, kernels_FCpp[guess.order_F], padding=seen.padding) - f_NFHW).norm()
    guesses = [(AS_OPENED, x_NCHW)]
    deviation = codec_named(plan.wire.codec).rounding_deviation
    white = plan.morph.scheme().ensemble is Ensemble.ORTHOGONAL  # other cores don't leave the rounding so
    if deviation and white and len(view.public_PCHW):
        guesses.append((ROUNDING_OFF, without_rounding(x_NCHW, view.public_PCHW, plan, deviation)))
    return Finding(
        recovered=recovered_pictures(morphed, guesses, plan),
        channel_order_F=guess.order_F,
        figures=(
            Figure("contested channels", guess.contested),
            Figure("of the features unexplained", float(unexplained / f_NFHW.norm())),
            Figure("steps of conjugate gradients", steps),
        ),
    )


def deconvolved(f_NFHW: Tensor, kernels_FCpp: Tensor) -> tuple[Tensor, int]:
    """Pictures x_NCHW whose features come nearest to f, and the steps that it took. Conjugate gradients on the normal
    equations, each picture with steps of its own."""
    padding = kernels_FCpp.shape[2] // 2

    def normal(x: Tensor) -> Tensor:
        features = functional.conv2d(x, kernels_FCpp, padding=padding)
        return functional.conv_transpose2d(features, kernels_FCpp, padding=padding)

    left = functional.conv_transpose2d(f_NFHW, kernels_FCpp, padding=padding)
    x_NCHW, direction = torch.zeros_like(left), left.clone()
    energy_N = _dot(left, left)
    enough_N = energy_N * _TOLERANCE**2
    for step in range(_MOST_STEPS):
        if bool((energy_N <= enough_N).all()):
            return x_NCHW, step
        applied = normal(direction)
        length_N = energy_N / _dot(direction, applied).clamp_min(1e-30)
        x_NCHW += length_N * direction
        left -= length_N * applied
        next_N = _dot(left, left)
        direction = left + next_N / energy_N.clamp_min(1e-30) * direction
        energy_N = next_N
    return x_NCHW, _MOST_STEPS


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(dim=(1, 2, 3), keepdim=True)


ATTACK = Attack.by(
    name="feature-maps",
    adversary=COMPUTE_NODE_WITH_STEM,
    claim="every picture from its features as the trainer has them, without key or layer",
    run=run,
)
