"""What the encrypted layers are compared with: convolution of integers, and a packed one on slots in the clear."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from comparison.lattice import ConvolutionShape, RotationsPlan


def convolved(x_CHW: NDArray[np.int64], weights_OIpp: NDArray[np.int64]) -> NDArray[np.int64]:
    """'Same' convolution over the integers, tap by tap."""
    side, taps = x_CHW.shape[1], weights_OIpp.shape[2]
    bordered = np.pad(x_CHW, ((0, 0), (taps // 2,) * 2, (taps // 2,) * 2))
    y_OHW = np.zeros((len(weights_OIpp), side, side), np.int64)
    for down in range(taps):
        for right in range(taps):
            window = bordered[:, down : down + side, right : right + side].reshape(len(x_CHW), -1)
            y_OHW += (weights_OIpp[:, :, down, right] @ window).reshape(y_OHW.shape)
    return y_OHW


def drawn_weights(shape: ConvolutionShape, seed: int) -> NDArray[np.int64]:
    """Signed 7-bit weights without a zero, so that every multiplication takes place."""
    rng = np.random.default_rng(seed)
    size_OIpp = rng.integers(1, 64, (shape.outputs, shape.inputs, shape.kernel, shape.kernel))
    return np.where(rng.integers(0, 2, size_OIpp.shape) == 1, size_OIpp, -size_OIpp)


def drawn_maps(channels: int, side: int, modulus: int, seed: int) -> NDArray[np.int64]:
    """Residues."""
    return np.random.default_rng(seed).integers(0, modulus, (channels, side, side))


def convolved_in_slots(
    plan: RotationsPlan, x_CHW: NDArray[np.int64], weights_OIpp: NDArray[np.int64]
) -> tuple[NDArray[np.int64], int]:
    """A plan carried out on slots in the clear, rotation by rotation, and its number of multiplications."""
    packing, shape = plan.packing, plan.packing.shape
    reaching = shape.reaching(weights_OIpp).reshape(shape.outputs, shape.inputs, -1)
    padded = np.zeros(
        (
            packing.output_ciphertexts * packing.output_period,
            packing.input_ciphertexts * packing.input_period,
            reaching.shape[2],
        ),
        np.int64,
    )
    padded[: shape.outputs, : shape.inputs] = reaching
    results, multiplications = [], 0
    for output in range(packing.output_ciphertexts):
        total_RS = np.zeros((2, packing.row_slots), np.int64)
        for output_swap in range(plan.output_swaps):
            for large in range(plan.large):
                meetings = list(plan.meetings_of(output_swap, large))
                for source, slots_N in enumerate(packing.pack(x_CHW)):
                    block = padded[
                        output * packing.output_period : (output + 1) * packing.output_period,
                        source * packing.input_period : (source + 1) * packing.input_period,
                    ].reshape(-1)
                    for number, meeting in enumerate(meetings):
                        input_swap, small = divmod(number, len(plan.small))
                        rows_RS = slots_N.reshape(2, -1)[:: -1 if input_swap else 1]
                        rows_RS = np.roll(rows_RS, -plan.small[small].shift, 1)
                        factor_RS = (block[meeting.weight_N] * meeting.meets_N).reshape(2, -1)
                        multiplications += bool(factor_RS.any())
                        moved_RS = np.roll(rows_RS * factor_RS, -large * plan.large_step, 1)
                        total_RS += moved_RS[:: -1 if output_swap else 1]
        for step in plan.fold_steps:
            total_RS = total_RS + (np.roll(total_RS, -step, 1) if step else total_RS[::-1])
        results.append(total_RS.reshape(-1))
    return packing.unpack(np.stack(results)), multiplications
