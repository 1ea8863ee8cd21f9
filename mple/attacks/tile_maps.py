"""What tiles show without any key: places, contrast and brightness, as a small picture of each picture.

A tile's place is not hidden: block k of a morphed picture is tile k. An orthogonal core keeps a tile's length, and the
leading direction of all tiles at a place is, whatever the core, how bright a tile is. No jigsaw is left to be solved.

Legend: N pictures, K blocks, Q core side, C channels, H W size, R C' tiles along height and width.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mple.attacks.lab.adversary import Outsider
from mple.attacks.lab.attack import Attack, AttackSettings, DoesNotApplyError, Figure, Finding, RecoveredPictures
from mple.attacks.lab.ground_truth import GroundTruth
from mple.attacks.lab.run_views import OUTSIDER
from mple.attacks.means.blocks import blocks_of
from mple.attacks.means.pixel_values import grey_levels, to_inputs
from mple.morph import Cores, Ensemble, Layout
from mple.privacy.picture_scores import ssim

_MOST_TO_LEARN = 4096
_GRID = "grid"


def run(view: Outsider, settings: AttackSettings) -> Finding:
    """Maps of tile lengths and of tile brightness, stretched over the picture.

    Raises DoesNotApplyError: there are no tiles, or cores are not orthogonal.
    """
    plan = view.plan
    scheme, geometry = plan.morph.scheme(), plan.geometry
    if scheme.layout is not Layout.TILED:
        raise DoesNotApplyError("there are no tiles: blocks are runs of the unrolled picture")
    if scheme.ensemble is not Ensemble.ORTHOGONAL:
        raise DoesNotApplyError("uniform cores do not keep lengths")
    t_NKQ = view.morphed.t_NKQ
    shared = scheme.cores is Cores.IDENTICAL
    public_BKQ = blocks_of(to_inputs(view.public_PCHW, plan), plan)
    bright_NK = _upright(brightness(t_NKQ, shared=shared), public_BKQ.mean(2))[: settings.pictures]
    first_NKQ = t_NKQ[: settings.pictures]
    length_NK = (first_NKQ - t_NKQ.mean((0, 1) if shared else 0)).norm(dim=2)
    grid, numbers = (geometry.rows, geometry.columns), view.morphed.numbers_N[: settings.pictures]
    mean_px, spread_px = float(view.public_PCHW.mean()), float(public_BKQ.mean(2).std()) * grey_levels(plan)
    recovered = []
    for way, map_NK in (("lengths of tiles", length_NK), ("brightness of tiles", bright_NK)):
        grey_NK = mean_px + spread_px * (map_NK - map_NK.mean()) / map_NK.std()
        wide_NHW = _stretched(grey_NK.clamp(0, 255), grid, scheme.tile, plan.height, plan.width)
        pixels_NCHW = wide_NHW.expand(-1, plan.channels, -1, -1).contiguous().numpy()
        recovered.append(RecoveredPictures(site=view.morphed.site, numbers_N=numbers, pixels_NCHW=pixels_NCHW, way=way))
    figures = (Figure("tiles with their places", f"{geometry.rows} x {geometry.columns}"),)
    return Finding(recovered=tuple(recovered), claims={_GRID: np.array([*grid, scheme.tile])}, figures=figures)


def brightness(t_NKQ: Tensor, *, shared: bool) -> Tensor:
    """Each tile along the leading direction of its core's tiles, (N, K), where grey is 0 and signs agree over places.
    The sign of all together stays unknown; neighbours are alike, which settles those of distinct cores."""
    some_NKQ = t_NKQ[:_MOST_TO_LEARN]
    if shared:
        return t_NKQ @ _leading(some_NKQ.flatten(0, 1))
    parts: list[Tensor] = []
    for block in range(t_NKQ.shape[1]):
        part_N = t_NKQ[:, block] @ _leading(some_NKQ[:, block])
        alike = sum(float(torch.dot(part_N - part_N.mean(), other_N)) for other_N in parts)
        parts.append(-part_N if alike < 0 else part_N)
    return torch.stack(parts, dim=1)


def score(finding: Finding, truth: GroundTruth) -> Sequence[Figure]:
    """Compare the maps with the mean brightness of the pictures' own tiles."""
    rows, columns, tile = finding.claims[_GRID].tolist()
    figures = []
    for recovered in finding.recovered:
        pixels_NCHW = truth.sites[recovered.site].train.pixels_NCHW[recovered.numbers_N]
        grey_NHW = torch.from_numpy(pixels_NCHW).float().mean(1, keepdim=True)
        height, width = grey_NHW.shape[2:]
        padded = functional.pad(grey_NHW, (0, columns * tile - width, 0, rows * tile - height), mode="replicate")
        real_NK = functional.avg_pool2d(padded, tile).flatten(1)
        guess = functional.pad(
            torch.from_numpy(recovered.pixels_NCHW).mean(1, keepdim=True),
            (0, columns * tile - width, 0, rows * tile - height),
            mode="replicate",
        )
        map_NK = functional.avg_pool2d(guess, tile).flatten(1)
        both = np.corrcoef(real_NK.flatten().numpy(), map_NK.flatten().numpy())[0, 1]
        small = _stretched(real_NK, (rows, columns), tile, height, width).numpy()
        alike = ssim(np.ascontiguousarray(recovered.pixels_NCHW[:, :1]), small).mean()
        figures.append(Figure(f"{recovered.way}: SSIM to the picture of tile means", round(float(alike), 4)))
        figures.append(Figure(f"{recovered.way}: correlation with tile means", round(float(both), 4)))
    return figures


def _stretched(map_NK: Tensor, grid: tuple[int, int], tile: int, height: int, width: int) -> Tensor:
    """A map with a value for each tile as a picture (N, 1, H, W)."""
    wide = functional.interpolate(map_NK.view(-1, 1, *grid).float(), scale_factor=tile, mode="bilinear")
    return wide[:, :, :height, :width].contiguous()


def _leading(rows_NQ: Tensor) -> Tensor:
    centred = rows_NQ - rows_NQ.mean(0)
    direction_Q: Tensor = torch.linalg.eigh(centred.T @ centred)[1][:, -1]
    return direction_Q


def _upright(bright_NK: Tensor, tile_means_NK: Tensor) -> Tensor:
    """Under the sign for which mean and skewness are more like those of public tiles, 0 being the same grey."""

    def traits(map_NK: Tensor) -> tuple[float, float]:
        scaled = map_NK / map_NK.std()
        return float(scaled.mean()), float(((scaled - scaled.mean()) ** 3).mean())

    agree = sum(one * other for one, other in zip(traits(bright_NK), traits(tile_means_NK), strict=True))
    return -bright_NK if agree < 0 else bright_NK


ATTACK = Attack.by(
    name="tile-maps",
    adversary=OUTSIDER,
    claim="shows a small picture of every picture: contrast and brightness of its tiles",
    run=run,
    score=score,
)
