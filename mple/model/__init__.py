"""The shared network: the first convolution (stem), VGG-16's trunk behind it, and its training."""

from mple.model.stem import Stem, StemError
from mple.model.training import TrunkTrainer
from mple.model.vgg16 import Vgg16, Vgg16Config, Vgg16Trunk, build_trunk, load_trunk, save_trunk, state_sha256

__all__ = [
    "Stem",
    "StemError",
    "TrunkTrainer",
    "Vgg16",
    "Vgg16Config",
    "Vgg16Trunk",
    "build_trunk",
    "load_trunk",
    "save_trunk",
    "state_sha256",
]
