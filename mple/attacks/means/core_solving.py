"""The cores behind a layer, where stem and channel order are known: least squares over all columns.

With the order undone a block of the layer is M⁻¹·G, and M⁻¹ = A·Gᵀ·(G·Gᵀ)⁻¹. Every value of M⁻¹ is fitted to some
hundred columns, so that the rounding of `int8` layers all but averages away.

Legend: Q core side, F filters, p kernel side.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mple.attacks.means.layer_blocks import LayerBlock


@dataclass(frozen=True, kw_only=True, slots=True)
class SolvedCores:
    """What the layer says of the key."""

    inverse_KQQ: Tensor
    """M⁻¹ of each core, float64."""
    unexplained: float
    """Share of the layer's root mean square that no key and this stem explain: rounding, or 0.1 and more for a stem or
    an order that is not the layer's."""


def solve_cores(blocks: Iterable[LayerBlock], ordered_stem_FCpp: Tensor) -> SolvedCores:
    """Solve for each core.

    Args:
        blocks: Of the layer.
        ordered_stem_FCpp: The stem's kernels in the layer's channel order.

    Raises ValueError: the stem does not see every pixel, so that no key follows from the layer.
    """
    parts: dict[int, list[tuple[Tensor, Tensor, float]]] = defaultdict(list)
    gram_of: dict[tuple[bytes, int], Tensor] = {}
    for block in blocks:
        name = (block.pixels_CRS.numpy().tobytes(), block.padding)
        if name not in gram_of:
            gram_of[name] = block.stem_gram(ordered_stem_FCpp)
        parts[block.core].append((block.on_stem(ordered_stem_FCpp), gram_of[name], block.energy()))
    inverses, left, whole = [], 0.0, 0.0
    for core in sorted(parts):
        seen, gram, energy = _summed(parts[core])
        factor, failed = torch.linalg.cholesky_ex(gram)
        if int(failed):
            raise ValueError("the stem does not see every pixel: no key follows from a layer of it")
        inverse_QQ = torch.cholesky_solve(seen.T, factor).T
        inverses.append(inverse_QQ)
        left += max(0.0, energy - float((inverse_QQ * seen).sum()))
        whole += energy
    return SolvedCores(inverse_KQQ=torch.stack(inverses), unexplained=(left / whole) ** 0.5)


def _summed(parts: Sequence[tuple[Tensor, Tensor, float]]) -> tuple[Tensor, Tensor, float]:
    """Blocks of one core are equations for the same unknowns."""
    seen, gram, energy = parts[0]
    for more_seen, more_gram, more_energy in parts[1:]:
        seen, gram, energy = seen + more_seen, gram + more_gram, energy + more_energy
    return seen, gram, energy
