"""A site that tells the compute node its key opens all the others, also where nobody knows the stem.

The colluder's key undoes its own layer: rows of M₂·A₂ = G·P are the features of single pixels, which are the stem's
kernels themselves. From then on the attack is that of a compute node that knows the stem (`layer_key`).

Legend: C channels, F filters, p kernel side, K blocks, Q core side, R S height and width of a region.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mple.attacks.lab.adversary import ColludingCompute
from mple.attacks.lab.attack import Attack, AttackSettings, DoesNotApplyError, Figure, Finding
from mple.attacks.lab.ground_truth import GroundTruth
from mple.attacks.lab.run_views import COLLUDING_COMPUTE
from mple.attacks.layer_key import open_by_stem
from mple.attacks.means.layer_blocks import LayerBlock, layer_blocks
from mple.model.stem import Stem
from mple.morph.cores import draw_core

_PIXELS = 64
"""Of a channel, whose kernels are averaged."""


def run(view: ColludingCompute, settings: AttackSettings) -> Finding:
    """Open the pictures of `settings.site` with the key of another."""
    if view.colluder == settings.site:
        raise DoesNotApplyError("the site under attack is the colluder itself")
    kernels_FCpp = torch.empty_like(ordered := stem_from_layer(view))
    kernels_FCpp[torch.from_numpy(view.channel_order_F)] = ordered
    found = open_by_stem(view, Stem(kernels_FCpp.numpy()), settings)
    return Finding(
        recovered=found.recovered,
        inverse_cores=found.inverse_cores,
        channel_order_F=found.channel_order_F,
        claims={"stem_FCpp": kernels_FCpp.numpy()},
        figures=(Figure("colluder", view.colluder), *found.figures),
    )


def stem_from_layer(view: ColludingCompute) -> Tensor:
    """The stem's kernels in the layer's channel order, float32, by the colluder's key."""
    layer, plan = view.layers[view.colluder], view.plan
    total_FCpp = torch.zeros((layer.filters, plan.channels, layer.kernel, layer.kernel), dtype=torch.float64)
    times_C = torch.zeros(plan.channels, dtype=torch.float64)
    for number, block in enumerate(layer_blocks(layer)):
        core = draw_core(
            view.key, plan.morph.scheme(), block.side, session=plan.session, key_epoch=view.key_epoch, block=number
        )
        core_QQ = core.core_QQ
        if view.basis is not None:
            core_QQ = np.zeros_like(core_QQ)
            core_QQ[:, : view.basis.columns] = core.core_QQ @ view.basis.analysis(number)
        _add_kernels(block, torch.from_numpy(core_QQ), layer.kernel, total_FCpp, times_C)
    return (total_FCpp / times_C.view(1, -1, 1, 1)).float()


def _add_kernels(block: LayerBlock, core_QQ: Tensor, kernel: int, total_FCpp: Tensor, times_C: Tensor) -> None:
    """Add what pixels show whose whole kernel lies within the features of the region."""
    high, wide = block.rows_QFIJ.shape[2:]
    for channel in range(len(times_C)):
        whole = []
        for place, (of, row, column) in enumerate(torch.nonzero(block.pixels_CRS).tolist()):
            top, left = row + block.padding - kernel + 1, column + block.padding - kernel + 1
            if of == channel and 0 <= top <= high - kernel and 0 <= left <= wide - kernel:
                whole.append((place, top, left))
        some = whole[:: max(1, len(whole) // _PIXELS)]
        for place, top, left in some:
            window_QFpp = block.rows_QFIJ[:, :, top : top + kernel, left : left + kernel].double()
            response_Fpp = torch.tensordot(core_QQ[place], window_QFpp, dims=1)
            total_FCpp[:, channel] += response_Fpp.flip((1, 2))
        times_C[channel] += len(some)


def score(finding: Finding, truth: GroundTruth) -> Sequence[Figure]:
    """Compare the kernels."""
    real_FCpp = torch.from_numpy(truth.stem.kernels_FCpp)
    off_FCpp = torch.from_numpy(finding.claims["stem_FCpp"]) - real_FCpp
    return (Figure("relative error of the stem", float(off_FCpp.norm() / real_FCpp.norm())),)


ATTACK = Attack.by(
    name="collusion",
    adversary=COLLUDING_COMPUTE,
    claim="every picture of all other sites by one site's key, stem unknown",
    run=run,
    score=score,
)
