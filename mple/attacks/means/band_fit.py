"""Finding the rotation between codes and the principal coefficients of public pictures, within known bands.

Codes are c = z·R: z a picture's own principal coefficients, nearly those of public pictures, R orthogonal and block
diagonal. Codes of a transform codec have bands of some columns; an orthogonal core alone is one band of all; bands of
one column leave signs. Sought is the R under which the pictures c·R' are likeliest as whole pictures
(`mple.attacks.means.picture_prior`), each up to a contrast of its own (a Student distribution).

Components come in a few at a time, those of largest variance first; what a band has beside them counts as noise of
equal variances. Several chains go side by side from the bands' own principal directions under random signs; after each
round the worst quarter starts again from the best. A single picture is enough to begin with.

Legend: S chains, B pictures, K tiles, Q core side, R components, r of them so far, d directions of a band that its
codes show, h of its components that take part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mple.attacks.means.picture_prior import PicturePrior

_FREEDOM = 8.0
"""Of the Student distribution."""
_STEPS = 30
_STEP, _SLOWER_AFTER = 0.25, 6
"""Longest way of a direction in the first step; half as long after six."""
_FLIP_EVERY, _FLIPS = 5, 3
_AT_ONCE = 64
"""More pictures take turns."""
_POLAR_STEPS = 9


@dataclass(slots=True)
class _Band:
    """One band's part of all chains."""

    low: int
    width: int
    """Columns, of which those beyond R are never fitted."""
    shown_BKd: Tensor
    """Its codes, along their own principal directions."""
    turn_Sdh: Tensor
    way_Sdh: Tensor
    """Smoothed gradient."""
    scale_S11: Tensor

    @property
    def high(self) -> int:
        return self.low + self.turn_Sdh.shape[2]


@dataclass(frozen=True, slots=True)
class _Look:
    """Where the chains are, for some pictures and components."""

    y_SBrK: Tensor
    pull_SBrK: Tensor
    """Gradient of half the squared distance."""
    weight_SB: Tensor
    log_likelihood_S: Tensor


def fit_bands(
    c_BKQ: Tensor, prior: PicturePrior, bands: Sequence[int], *, chains: int = 12, seed: int = 1
) -> Mapping[int, Tensor]:
    """Fit, and return the pictures' first r coefficients z_BKr by r, as the likeliest chain had them at that round.

    With few pictures the early rounds are the better ones: later components fit what is not there.

    Args:
        c_BKQ: Codes' values.
        prior: Of public pictures.
        bands: Widths, largest variances first; they add up to Q.
        chains: Starts.
        seed: Of their signs.

    Not promised: the sign of all of it, which hangs on how dark public pictures are on the average.
    """
    dice = torch.Generator().manual_seed(seed)
    parts = _starts(c_BKQ, prior.components, bands, chains, dice)
    found = {}
    for count in prior.precisions:
        _climb(parts, prior, count, dice)
        look = _look(parts, prior, count, _some(len(c_BKQ), dice))
        best = int(look.log_likelihood_S.argmax())
        found[count] = _coefficients(parts, count, torch.arange(len(c_BKQ)), best)[0].mT.contiguous()
        _start_worst_again(parts, look, count, dice)
    return found


def _starts(c_BKQ: Tensor, components: int, bands: Sequence[int], chains: int, dice: torch.Generator) -> list[_Band]:
    parts, low = [], 0
    for width in bands:
        if low >= components:
            break
        band_BKw = c_BKQ[:, :, low : low + width]
        rows_Nw = band_BKw.flatten(0, 1).double()
        own_ww = torch.linalg.eigh(rows_Nw.T @ rows_Nw)[1].flip(1).float()
        shown, fitted = min(width, len(rows_Nw)), min(width, components - low)
        turn_Sdh = torch.eye(shown, fitted).repeat(chains, 1, 1)
        if width > 1:
            off_Sdh = torch.randn(chains, shown, fitted, generator=dice) / max(shown, len(rows_Nw)) ** 0.5
            off_Sdh[0] = 0
            turn_Sdh = _polar(turn_Sdh + off_Sdh / 4)
        turn_Sdh = turn_Sdh * torch.randn(chains, 1, fitted, generator=dice).sign()
        parts.append(
            _Band(
                low,
                width,
                band_BKw @ own_ww[:, :shown],
                turn_Sdh,
                torch.zeros_like(turn_Sdh),
                torch.zeros(chains, 1, 1),
            )
        )
        low += width
    return parts


def _climb(parts: list[_Band], prior: PicturePrior, count: int, dice: torch.Generator) -> None:
    turning = [part for part in parts if part.low < count and part.width > 1]
    pictures = len(parts[0].shown_BKd)
    for step in range(_STEPS):
        rows = _some(pictures, dice)
        look = _look(parts, prior, count, rows)
        if step % _FLIP_EVERY == 0:
            flipped = False
            for _ in range(_FLIPS):
                if not _flip(parts, prior, count, look, rows):
                    break
                look, flipped = _look(parts, prior, count, rows), True
            if not turning and not flipped:
                break
        weighted_SBrK = look.pull_SBrK * look.weight_SB[:, :, None, None]
        for part in turning:
            high = min(part.high, count)
            slope_Sdh = torch.zeros_like(part.turn_Sdh)
            slope_Sdh[:, :, : high - part.low] = torch.einsum(
                "bkd,sbhk->sdh", part.shown_BKd[rows], weighted_SBrK[:, :, part.low : high]
            )
            along_Shh = part.turn_Sdh.mT @ slope_Sdh
            slope_Sdh -= part.turn_Sdh @ (along_Shh + along_Shh.mT) / 2
            part.way_Sdh = 0.8 * part.way_Sdh + 0.2 * slope_Sdh
            largest_S11 = slope_Sdh.square().sum(1, keepdim=True).amax(2, keepdim=True)
            part.scale_S11 = torch.maximum(0.9 * part.scale_S11, largest_S11)
            length = _STEP / (1 + step / _SLOWER_AFTER)
            part.turn_Sdh = _polar(part.turn_Sdh - length * part.way_Sdh / (part.scale_S11.sqrt() + 1e-9))


def _look(parts: list[_Band], prior: PicturePrior, count: int, rows: Tensor) -> _Look:
    y_SBrK = _coefficients(parts, count, rows)
    chains, pictures, _, tiles = y_SBrK.shape
    off_SBD = (y_SBrK - prior.mean_KQ[:, :count].T).flatten(2)
    pull_SBD = off_SBD @ prior.precisions[count]
    rest_r, others_B = _rest(parts, prior, count, rows)
    distance_SB = (off_SBD * pull_SBD).sum(2) + others_B - (y_SBrK.square() * rest_r[:, None]).sum((2, 3))
    pull_SBrK = pull_SBD.view(chains, pictures, count, tiles) - rest_r[:, None] * y_SBrK
    freedom = _FREEDOM + count * tiles
    log_likelihood_S = -0.5 * freedom * torch.log1p(distance_SB.clamp(min=0) / _FREEDOM).sum(1)
    return _Look(y_SBrK, pull_SBrK, freedom / (_FREEDOM + distance_SB.clamp(min=0)), log_likelihood_S)


def _rest(parts: list[_Band], prior: PicturePrior, count: int, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse variance of what the last band has beside the components so far, for each of them, 0 in bands that take
    part as a whole; and the squared length of all that band's codes, in its units."""
    rest_r, others_B = torch.zeros(count), torch.zeros(len(rows))
    for part in parts:
        if part.low < count < part.low + part.width:
            variance = float(prior.variance_Q[count : part.low + part.width].mean()) + prior.code_noise
            rest_r[part.low :] = 1 / variance
            others_B = part.shown_BKd[rows].square().sum((1, 2)) / variance
    return rest_r, others_B


def _flip(parts: list[_Band], prior: PicturePrior, count: int, look: _Look, rows: Tensor) -> bool:
    """Turn each chain's one component whose sign is most to be gained from; whether there was any."""
    tiles = look.y_SBrK.shape[3]
    blocks_rKrK = prior.precisions[count].view(count, tiles, count, tiles)
    own_rKK = torch.stack([blocks_rKrK[place, :, place] for place in range(count)])
    rest_r, _ = _rest(parts, prior, count, rows)
    within_SBr = torch.einsum("sbrk,rkl,sbrl->sbr", look.y_SBrK, own_rKK, look.y_SBrK)
    whole_SBrK = look.pull_SBrK + rest_r[:, None] * look.y_SBrK
    change_SBr = 2 * within_SBr - 2 * (look.y_SBrK * whole_SBrK).sum(3)
    gain_S, place_S = (change_SBr * look.weight_SB[:, :, None]).sum(1).min(1)
    gains_S = gain_S < -1e-3
    for part in parts:
        here_S = gains_S & (place_S >= part.low) & (place_S < part.high)
        part.turn_Sdh[here_S, :, place_S[here_S] - part.low] *= -1
    return bool(gains_S.any())


def _start_worst_again(parts: list[_Band], look: _Look, count: int, dice: torch.Generator) -> None:
    order_S = look.log_likelihood_S.argsort(descending=True)
    again = len(order_S) // 4
    if not again:
        return
    for part in parts:
        part.turn_Sdh[order_S[-again:]] = part.turn_Sdh[order_S[:again]]
        part.way_Sdh[order_S[-again:]] = 0
        new = max(0, count - part.low)  # components that have not come in yet, under other signs
        signs = torch.randn(again, 1, max(0, part.high - part.low - new), generator=dice).sign()
        part.turn_Sdh[order_S[-again:], :, new:] *= signs


def _coefficients(parts: list[_Band], count: int, rows: Tensor, chain: int | None = None) -> Tensor:
    """y_SBrK of the first `count` components, of all chains or of one."""
    of = slice(None) if chain is None else slice(chain, chain + 1)
    return torch.cat(
        [
            torch.einsum("bkd,sdh->sbhk", part.shown_BKd[rows], part.turn_Sdh[of, :, : count - part.low])
            for part in parts
            if part.low < count
        ],
        2,
    )


def _some(pictures: int, dice: torch.Generator) -> Tensor:
    return torch.randperm(pictures, generator=dice)[:_AT_ONCE] if pictures > _AT_ONCE else torch.arange(pictures)


def _polar(matrix_Sdh: Tensor) -> Tensor:
    """The nearest matrix of orthonormal columns, or rows, by Newton's and Schulz's steps."""
    if matrix_Sdh.shape[1] < matrix_Sdh.shape[2]:
        return _polar(matrix_Sdh.mT).mT
    turned: Tensor = matrix_Sdh / (
        1.2 * matrix_Sdh.square().mean((1, 2), keepdim=True).sqrt() * matrix_Sdh.shape[1] ** 0.5
    )
    for _ in range(_POLAR_STEPS):
        turned = 1.5 * turned - 0.5 * turned @ (turned.mT @ turned)
    return turned
