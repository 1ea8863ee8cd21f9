"""Channels brought to like magnitudes before a network is rounded, which changes none of its logits.

ReLU, maxima and sums commute with positive factors: what a channel's weights are multiplied by, the next stage's
weights for that channel can be divided by. With the factors of Nagel et al., "Data-Free Quantization Through Weight
Equalization and Bias Correction" (ICCV 2019), rows and columns use the same few bits alike. Pure.

Legend: O I channels out and in, X positions of a map that was flattened.
"""

from dataclasses import replace

import torch
from torch import Tensor

from comparison.networks.float_network import FloatNetwork, FloatStage

_ROUNDS = 10
_LEAST_SHARE = 1e-4
"""Of the largest row or column; what is smaller says nothing, and its channel keeps its scale."""


def equalised(network: FloatNetwork) -> FloatNetwork:
    """The same network with channels scaled.

    Guarantees: logits are the same but for float32's rounding.
    """
    stages = list(network.stages)
    for _ in range(_ROUNDS):
        for place in range(len(stages) - 1):
            stages[place], stages[place + 1] = _pair(stages[place], stages[place + 1])
    return replace(network, stages=tuple(stages))


def _pair(stage: FloatStage, following: FloatStage) -> tuple[FloatStage, FloatStage]:
    outputs = len(stage.bias_O)
    columns_OIX = following.weights_OIpp.reshape(len(following.bias_O), outputs, -1)
    made_O, taken_O = stage.weights_OIpp.abs().amax((1, 2, 3)), columns_OIX.abs().amax((0, 2))
    heard_O = _heard(made_O) & _heard(taken_O)
    factor_O = torch.where(heard_O, torch.sqrt(taken_O / made_O), 1.0)
    if heard_O.any():  # the common factor is the quantisation's to choose
        factor_O[heard_O] /= factor_O[heard_O].log().mean().exp()
    by_input = factor_O.repeat_interleave(following.weights_OIpp.shape[1] // outputs)
    return (
        replace(stage, weights_OIpp=stage.weights_OIpp * factor_O[:, None, None, None], bias_O=stage.bias_O * factor_O),
        replace(following, weights_OIpp=following.weights_OIpp / by_input[None, :, None, None]),
    )


def _heard(magnitude_O: Tensor) -> Tensor:
    return magnitude_O > _LEAST_SHARE * magnitude_O.max()
