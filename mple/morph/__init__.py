"""Morphing: secret invertible transforms of images, and the augmented layers that undo them within a convolution.

Pure mathematics on tensors; no I/O. A site holds a `MorphKey` and morphs with a `Morpher`; whoever computes layers
calls `build_augmented_layer`; whoever trains calls `AugmentedLayer.apply`. For every key, layout and image x

    AugmentedLayer.apply(Morpher.morph(x)) = conv(x) with its output channels in the secret order,

up to rounding (see `mple.morph.augmented`).
"""

from mple.morph.augmented import AugmentedLayer, build_augmented_layer, expected_weight_shape
from mple.morph.cores import BlockCore, draw_core
from mple.morph.keys import MorphKey, draw_order, gaussians
from mple.morph.morpher import Morpher
from mple.morph.scheme import PRESETS, Cores, Ensemble, ImageShape, Layout, MorphGeometry, MorphScheme
from mple.morph.verify import (
    CONSISTENCY_TOLERANCE,
    NORM_TOLERANCE,
    consistency_response,
    expected_frobenius,
    layer_faults,
    response_deviation,
)

__all__ = [
    "CONSISTENCY_TOLERANCE",
    "NORM_TOLERANCE",
    "PRESETS",
    "AugmentedLayer",
    "BlockCore",
    "Cores",
    "Ensemble",
    "ImageShape",
    "Layout",
    "MorphGeometry",
    "MorphKey",
    "MorphScheme",
    "Morpher",
    "build_augmented_layer",
    "consistency_response",
    "draw_core",
    "draw_order",
    "expected_frobenius",
    "expected_weight_shape",
    "gaussians",
    "layer_faults",
    "response_deviation",
]
