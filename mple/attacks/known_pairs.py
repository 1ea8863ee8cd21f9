"""Known pairs: pictures together with their morphed forms give the cores by linear algebra (the papers' "D-T" attack).

A known picture is one equation for every row of every block that bears a core: q pairs for distinct cores, as the
papers say, but only ⌈q/κ⌉ for identical ones. The number at which the equations determine the core is found here from
the known pictures themselves, not from that formula. Pictures can be recognised well before: what is still undetermined
then are the directions in which pictures differ least. A picture whose blocks repeat others, a grey one where blocks
are colours or one with two white tiles, brings fewer equations and is taken last.

Legend: N pairs, K blocks, Q core side, R rows of equations of a pair for one core, B rows of a basis.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mple.attacks.lab.adversary import KnownPairs, OutsiderWithPairs
from mple.attacks.lab.attack import Attack, AttackSettings, DoesNotApplyError, Figure, Finding
from mple.attacks.lab.ground_truth import GroundTruth
from mple.attacks.lab.run_views import OUTSIDER_WITH_PAIRS
from mple.attacks.means.blocks import blocks_of
from mple.attacks.means.opening import open_pictures, recovered_pictures
from mple.morph import Cores, Ensemble
from mple.plan import RunPlan
from mple.privacy.protection import pairs_that_open
from mple.wire.codecs import codec_named

_LEAST_STRENGTH = 1e-10
"""Of a direction that the pictures show, against their longest row."""
_FLOAT_ROUNDING = 1e-14
"""Variance of the rounding of float32 products, against the mean square of the values."""
_DETERMINED = 0.5
"""Error in the worst direction below which a core counts as known."""
_POWER_STEPS = 100


def run(view: OutsiderWithPairs, settings: AttackSettings) -> Finding:
    """Find the number of pairs that determine the cores, and open others with fewer, as many and more."""
    pairs, plan = view.pairs, view.plan
    if not len(pairs) or not len(view.morphed):
        raise DoesNotApplyError("there is no known pair, or no other picture")
    x_KNRQ, t_KNRQ = (_by_core(blocks, plan) for blocks in (exact_blocks(pairs, plan), pairs.t_NKQ.double()))
    choice = choose_pairs(x_KNRQ)
    found, theory = choice.determining, pairs_that_open(plan)
    ways, claims = [], {}
    for count in _counts(found or theory, len(pairs)):
        some = choice.order_N[:count]
        inverse_KQQ = fitted_cores(x_KNRQ[:, some], t_KNRQ[:, some], plan)
        x_NCHW = open_pictures(view.morphed.t_NKQ[: settings.pictures], inverse_KQQ, plan)
        ways.append((f"with {count:,} pairs", x_NCHW))
        if found is not None and count in (found - 1, found):
            claims[f"{count:,}"] = inverse_KQQ.numpy()
    return Finding(
        recovered=recovered_pictures(view.morphed, ways, plan),
        claims={"site": np.array(view.morphed.site), **claims},
        figures=(
            Figure("pairs by theory", theory),
            Figure("pairs found to determine the cores", "more than known" if found is None else found),
            Figure("pairs passed over, whose blocks repeat others", choice.passed_over),
            Figure("pairs known", len(pairs)),
        ),
    )


def exact_blocks(pairs: KnownPairs, plan: RunPlan) -> Tensor:
    """Blocks x_NKQ of the known pictures in float64: the rounding of float32 would pass for something new in them."""
    mean, std = (
        torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1)
        for values in (plan.normalisation.mean, plan.normalisation.std)
    )
    x_NCHW = (torch.from_numpy(pairs.pixels_NCHW).double() / 255 - mean) / std
    return blocks_of(x_NCHW, plan)


@dataclass(frozen=True, kw_only=True, slots=True)
class PairChoice:
    """In which order pairs are worth most."""

    order_N: NDArray[np.int64]
    """All pairs, those that bring most equations first."""
    determining: int | None
    """So many of them, in this order, determine every core; None where all do not."""
    passed_over: int
    """Pairs that brought fewer equations than blocks, looked at before the cores were determined."""


def choose_pairs(x_KNRQ: Tensor) -> PairChoice:
    """Take pairs as they come while every row is a new equation for each core, then those that bring any.

    Guarantees: `determining` is the rank's own number, not a formula's: one pair fewer leaves a core undetermined.
    """
    _, count, rows, side = x_KNRQ.shape
    equations = _Equations(x_KNRQ)
    chosen: list[int] = []
    passed: list[int] = []
    for piece in np.array_split(np.arange(count), -(-count // max(1, side // (8 * rows)))):
        if len(piece) * rows < equations.missing and equations.take(x_KNRQ[:, piece].flatten(1, 2)):
            chosen += piece.tolist()
            continue
        for place in piece.tolist():
            if equations.missing:
                (chosen if equations.take(x_KNRQ[:, place]) else passed).append(place)
    for place in passed:
        if equations.missing and equations.take(x_KNRQ[:, place], whole=False):
            chosen.append(place)
    rest = sorted(set(range(count)) - set(chosen))
    return PairChoice(
        order_N=np.array(chosen + rest, np.int64),
        determining=None if equations.missing else len(chosen),
        passed_over=len(passed),
    )


def fitted_cores(x_KNRQ: Tensor, t_KNRQ: Tensor, plan: RunPlan) -> Tensor:
    """M⁻¹ of each core (1 or K, Q, Q), float64, by ridge regression of pictures on their morphed forms. The ridge is
    what codes' rounding asks for under orthogonal cores, whose values have variance 1/Q. Directions that no known
    picture shows come out as nothing, that is as the grey of the normalisation."""
    side = x_KNRQ.shape[3]
    orthogonal = plan.morph.scheme().ensemble is Ensemble.ORTHOGONAL
    inverses = []
    for x_NRQ, t_NRQ in zip(x_KNRQ, t_KNRQ, strict=True):
        x, t = x_NRQ.flatten(0, 1), t_NRQ.flatten(0, 1)
        ridge = side * codec_named(plan.wire.codec).rounding_deviation ** 2 if orthogonal else 0.0
        ridge += side * _FLOAT_ROUNDING * float(t.square().mean())
        if len(t) < side:
            inverses.append(t.T @ torch.linalg.solve(t @ t.T + ridge * torch.eye(len(t), dtype=t.dtype), x))
        else:
            inverses.append(torch.linalg.solve(t.T @ t + ridge * torch.eye(side, dtype=t.dtype), t.T @ x))
    return torch.stack(inverses)


def score(finding: Finding, truth: GroundTruth) -> Sequence[Figure]:
    """Error of the cores in their worst direction: 1 or more while one is undetermined."""
    site = str(finding.claims["site"])
    real_KQQ = torch.linalg.pinv(truth.inverse_cores(site))
    used_K = [int(core_QQ.abs().amax(0).count_nonzero()) for core_QQ in real_KQQ]  # of Q: what of a block travels
    figures = []
    for name, values in finding.claims.items():
        if name != "site":
            off_KQQ = torch.from_numpy(values) @ real_KQQ
            for off_QQ, used in zip(off_KQQ, used_K, strict=True):
                off_QQ.diagonal()[:used] -= 1
            worst_K = [_largest_singular(off_QQ) for off_QQ in off_KQQ]
            known = sum(worst < _DETERMINED for worst in worst_K)
            figures.append(Figure(f"worst error of a core with {name} pairs", max(worst_K)))
            figures.append(Figure(f"cores known in every direction with {name} pairs", f"{known}/{len(worst_K)}"))
    return figures


def _by_core(x_NKQ: Tensor, plan: RunPlan) -> Tensor:
    """(cores, N, R, Q): all blocks are equations for one core, or each for its own."""
    if plan.morph.scheme().cores is Cores.IDENTICAL:
        return x_NKQ[None]
    return x_NKQ.transpose(0, 1)[:, :, None]


def _counts(threshold: int, known: int) -> list[int]:
    """Numbers of pairs to try: about the threshold, and up to twice as many."""
    tried = {threshold // 4, threshold // 2, threshold - 1, threshold, -(-threshold * 11 // 10), 2 * threshold, known}
    return sorted(count for count in tried if 1 <= count <= min(known, max(2 * threshold, 8)))


class _Equations:
    """What known rows say of each core, as an orthonormal basis of the directions that they show."""

    def __init__(self, x_KNRQ: Tensor) -> None:
        self._side = x_KNRQ.shape[3]
        self._least_K = _LEAST_STRENGTH * x_KNRQ.norm(dim=3).amax(dim=(1, 2))
        self._bases = [x_KNRQ.new_empty((0, self._side)) for _ in x_KNRQ]

    @property
    def missing(self) -> int:
        """Directions of the core that lacks most."""
        return self._side - min(len(basis_BQ) for basis_BQ in self._bases)

    def take(self, rows_KRQ: Tensor, *, whole: bool = True) -> bool:
        """Add rows; with `whole` only if each is new, or nothing would be missing after them. Whether any was added."""
        new = []
        for rows_RQ, basis_BQ, least in zip(rows_KRQ, self._bases, self._least_K, strict=True):
            beyond_RQ = _beyond(rows_RQ, basis_BQ)
            _, strength, directions = torch.linalg.svd(beyond_RQ, full_matrices=False)
            new.append(directions[strength > least])
            if whole and len(new[-1]) < min(len(rows_RQ), self._side - len(basis_BQ)):
                return False
        self._bases = [torch.cat(pair) for pair in zip(self._bases, new, strict=True)]
        return any(len(directions) for directions in new)


def _beyond(rows_RQ: Tensor, basis_BQ: Tensor) -> Tensor:
    """What of rows is outside a basis; twice, for rounding."""
    for _ in range(2):
        rows_RQ = rows_RQ - (rows_RQ @ basis_BQ.T) @ basis_BQ
    return rows_RQ


def _largest_singular(matrix_QQ: Tensor) -> float:
    """By power iteration from a fixed start."""
    direction = torch.ones(len(matrix_QQ), dtype=matrix_QQ.dtype) + torch.arange(len(matrix_QQ)) % 7
    strength = 0.0
    for _ in range(_POWER_STEPS):
        direction = direction / direction.norm()
        direction = matrix_QQ.T @ (matrix_QQ @ direction)
        strength = float(direction.norm()) ** 0.5
        if strength == 0.0:
            break
    return strength


ATTACK = Attack.by(
    name="known-pairs",
    adversary=OUTSIDER_WITH_PAIRS,
    claim="the cores by linear algebra, then every other picture of the site",
    run=run,
    score=score,
)
