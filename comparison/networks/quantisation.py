"""A trained network made whole: weights of few bits, activations of few bits, every sum within the residues.

Channels are equalised first. Then stage by stage on calibration pictures, each stage on the integers that those before
it give, so that ranges are the quantised network's own. Each stage has one scale, a free real number as large as its
weights' bits and its sums' limit allow; only the shift behind the activation is a power of two, as small as the
activations' bits allow. The bias takes half a step, so that rounding down rounds to the nearest, and what rounding
moved each channel's mean by.

Legend: N pictures, B batch, C channels, H W size, O I channels out and in, p kernel side.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from comparison.lattice.parameters import batching_prime
from comparison.networks.equalisation import equalised
from comparison.networks.float_network import FloatNetwork, FloatStage
from comparison.networks.quantised import (
    DEGREE,
    ExactStage,
    LinearStage,
    NetworkError,
    QuantisedNetwork,
    largest_sum_of,
)

_AT_ONCE = 100
_TINY = 1e-12


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantisationSettings:
    """How many bits there are."""

    modulus_bits: int = 20
    """Of t, 16 to 30."""
    weight_bits: int = 7
    """Of a weight with its sign, 3 to 16."""
    activation_bits: int = 7
    """Of the largest activation on calibration pictures, 2 to 16."""
    margin: float = 2.0
    """How much larger sums may be than the largest on calibration pictures, at least 1."""

    def __post_init__(self) -> None:
        if not 16 <= self.modulus_bits <= 30:
            raise ValueError(f"modulus_bits = {self.modulus_bits}; allowed are 16 to 30")
        if not 3 <= self.weight_bits <= 16 or not 2 <= self.activation_bits <= 16:
            raise ValueError(
                f"weight_bits = {self.weight_bits}, activation_bits = {self.activation_bits}; "
                "allowed are 3 to 16, 2 to 16"
            )
        if not self.margin >= 1:
            raise ValueError(f"margin = {self.margin}; allowed are 1 and more")


DEFAULT_SETTINGS = QuantisationSettings()


@torch.no_grad()
def quantise(
    network: FloatNetwork, pixels_NCHW: NDArray[np.uint8], settings: QuantisationSettings = DEFAULT_SETTINGS
) -> QuantisedNetwork:
    """The network of integers that comes close to a trained one.

    Args:
        network: The trained one.
        pixels_NCHW: Calibration pictures, from those it was trained on. A few hundred are plenty; all their maps of one
            stage lie in memory at once.
        settings: How many bits.

    Raises ValueError: there are no pictures, or they have another shape.
    """
    if not len(pixels_NCHW):
        raise NetworkError("no pictures to calibrate on")
    network = equalised(network)
    most = _Most(
        weight=2 ** (settings.weight_bits - 1) - 1,
        sum_=largest_sum_of(batching_prime(settings.modulus_bits, DEGREE)) / settings.margin,
        activation=2**settings.activation_bits,
    )
    whole_NCHW = real_NCHW = network.integers(pixels_NCHW)
    stages: list[LinearStage] = []
    scale = 1.0
    for stage in network.stages:
        made, scale = _quantised(stage, whole_NCHW, real_NCHW, scale, most, last=stage is network.stages[-1])
        stages.append(made)
        if made.shift is not None:
            exact = ExactStage(made)
            whole_NCHW = torch.cat([exact.activated(exact.sums(x_BCHW))[0].float() for x_BCHW in _cut(whole_NCHW)])
            real_NCHW = torch.cat([stage.activated(stage.sums(x_BCHW)) for x_BCHW in _cut(real_NCHW)])
    return QuantisedNetwork(
        name=network.name,
        input_shape=network.input_shape,
        stages=tuple(stages),
        modulus_bits=settings.modulus_bits,
        pixel_offset=network.pixel_offset,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Most:
    """Magnitudes that calibration keeps below."""

    weight: int
    sum_: float
    activation: int


def _quantised(
    stage: FloatStage, whole_NCHW: Tensor, real_NCHW: Tensor, scale: float, most: _Most, *, last: bool
) -> tuple[LinearStage, float]:
    """One stage, and what its results are multiplied by.

    Args:
        stage: The trained one.
        whole_NCHW: Its inputs in the quantised network.
        real_NCHW: Its inputs in the trained one.
        scale: What whole inputs are multiplied by, against real ones.
        most: Magnitudes to keep below.
        last: Without activation.
    """
    relieved = replace(stage, weights_OIpp=stage.weights_OIpp / scale)
    least, largest, _ = _extent(relieved, whole_NCHW)
    sum_scale = min(
        most.weight / max(_TINY, float(relieved.weights_OIpp.abs().max())), most.sum_ / max(_TINY, -least, largest)
    )
    shift = None if last else max(0, math.ceil(math.log2((largest * sum_scale + 1) / most.activation)))
    weights_OIpp = torch.round(relieved.weights_OIpp * sum_scale)
    _, _, whole_mean_O = _extent(
        replace(stage, weights_OIpp=weights_OIpp, bias_O=torch.zeros_like(stage.bias_O)), whole_NCHW
    )
    _, _, real_mean_O = _extent(stage, real_NCHW)
    half_step = 2 ** (shift - 1) if shift else 0
    bias_O = torch.round(real_mean_O * sum_scale - whole_mean_O) + half_step
    made = LinearStage(
        name=stage.name,
        weights_OIpp=weights_OIpp.to(torch.int32).numpy(),
        bias_O=bias_O.to(torch.int64).numpy(),
        shift=shift,
        pool=stage.pool,
        flatten=stage.flatten,
    )
    return made, sum_scale / 2.0 ** (shift or 0)


def _extent(stage: FloatStage, x_NCHW: Tensor) -> tuple[float, float, Tensor]:
    """Least and largest of all sums, but not above or below 0, and the mean of each channel's, in float64."""
    least, largest, total_O = 0.0, 0.0, torch.zeros(len(stage.bias_O), dtype=torch.float64)
    for x_BCHW in _cut(x_NCHW):
        sums_BOHW = stage.sums(x_BCHW)
        least, largest = min(least, float(sums_BOHW.min())), max(largest, float(sums_BOHW.max()))
        total_O += sums_BOHW.double().mean((2, 3)).sum(0)
    return least, largest, total_O / len(x_NCHW)


def _cut(x_NCHW: Tensor) -> list[Tensor]:
    return list(torch.split(x_NCHW, _AT_ONCE))
