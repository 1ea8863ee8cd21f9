"""Stem known: the channel order from the layer, then the morph key, then every picture.

The papers put an adversary's chance at 1/F!, one guess of the order. Nothing has to be guessed: leverage gives the
order (`channel_leverage`), least squares the cores (`core_solving`), and a product with their inverse the pictures.

Legend: N pictures, C channels, H W size, Q core side, F filters.
"""

import torch

from mple.attacks.lab.adversary import ColludingCompute, ComputeNodeWithStem
from mple.attacks.lab.attack import Attack, AttackSettings, Figure, Finding
from mple.attacks.lab.run_views import COMPUTE_NODE_WITH_STEM
from mple.attacks.means.channel_leverage import order_by_leverage
from mple.attacks.means.core_solving import solve_cores
from mple.attacks.means.layer_blocks import layer_blocks
from mple.attacks.means.opening import opened_ways, recovered_pictures
from mple.model.stem import Stem


def run(view: ComputeNodeWithStem, settings: AttackSettings) -> Finding:
    """Open a site's pictures by its layer and the stem."""
    return open_by_stem(view, view.stem, settings)


def open_by_stem(view: ComputeNodeWithStem | ColludingCompute, stem: Stem, settings: AttackSettings) -> Finding:
    """Order, key and pictures of `settings.site`. Where codes are rounded, the pictures come twice: as opened, and with
    what public pictures tell of the rounding."""
    layer, kernels_FCpp = view.layers[settings.site], torch.from_numpy(stem.kernels_FCpp)
    guess = order_by_leverage(layer_blocks(layer), kernels_FCpp)
    solved = solve_cores(layer_blocks(layer), kernels_FCpp[torch.from_numpy(guess.order_F)])
    morphed, plan = view.sites[settings.site], view.plan
    ways = opened_ways(morphed.t_NKQ[: settings.pictures], solved.inverse_KQQ, view.public_PCHW, plan)
    return Finding(
        recovered=recovered_pictures(morphed, ways, plan),
        inverse_cores={settings.site: solved.inverse_KQQ},
        channel_order_F=guess.order_F,
        figures=(
            Figure("contested channels", guess.contested),
            Figure("second nearest channel is farther", round(guess.margin, 2), "times"),
            Figure("of the layer unexplained", solved.unexplained),
        ),
    )


ATTACK = Attack.by(
    name="layer-key",
    adversary=COMPUTE_NODE_WITH_STEM,
    claim="channel order from the layer, then the key, then every picture",
    run=run,
)
