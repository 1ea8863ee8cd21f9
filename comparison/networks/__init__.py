"""Networks for private inference: trained, folded into plain stages, and quantised to integers.

`train_minionn` makes the papers' CIFAR-10 network, `vgg16_of_run` reads a finished simulation's; `quantise` makes
either a `QuantisedNetwork`, whose logits every protocol must give to the last bit.
"""

from comparison.networks.float_network import FloatNetwork, FloatStage
from comparison.networks.folding import folded_minionn, folded_vgg16, vgg16_of_run
from comparison.networks.minionn import Minionn, MinionnEpoch, MinionnOutcome, train_minionn
from comparison.networks.quantisation import QuantisationSettings, quantise
from comparison.networks.quantised import LinearStage, NetworkError, QuantisedNetwork, StageRange
from comparison.networks.small import small_network

__all__ = [
    "FloatNetwork",
    "FloatStage",
    "LinearStage",
    "Minionn",
    "MinionnEpoch",
    "MinionnOutcome",
    "NetworkError",
    "QuantisationSettings",
    "QuantisedNetwork",
    "StageRange",
    "folded_minionn",
    "folded_vgg16",
    "quantise",
    "small_network",
    "train_minionn",
    "vgg16_of_run",
]
