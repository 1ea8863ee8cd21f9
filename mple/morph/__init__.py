"""Morphing: secret invertible transforms of images, and the augmented layers that undo them within a convolution.

Pure mathematics on arrays; no I/O, and no torch, which a hospital does not need. A site holds a `MorphKey` and morphs
with a `Morpher`; whoever computes layers calls `build_augmented_layer`; whoever trains prepares them once. For every
key, layout and image

    AugmentedLayer.apply(Morpher.morph(x)) = conv(x) with its output channels in the secret order,

up to rounding (see `mple.morph.augmented`), and the prepared layer gives the same (see `mple.model.first_layer`).
"""

from mple.morph.arithmetic import Arithmetic
from mple.morph.keys import MorphKey, draw_order, gaussians
from mple.morph.scheme import (
    PRESETS,
    Cores,
    Ensemble,
    ImageShape,
    Layout,
    MorphGeometry,
    MorphScheme,
    expected_weight_shape,
)

__all__ = [
    "PRESETS",
    "Arithmetic",
    "Cores",
    "Ensemble",
    "ImageShape",
    "Layout",
    "MorphGeometry",
    "MorphKey",
    "MorphScheme",
    "draw_order",
    "expected_weight_shape",
    "gaussians",
]
