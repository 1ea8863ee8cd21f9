"""Morphing: secret invertible transforms of images, and the augmented layers that undo them within a convolution.

Pure mathematics on tensors; no I/O. A site holds a `MorphKey` and morphs with a `Morpher`; whoever computes layers
calls `build_augmented_layer`; whoever trains prepares them once, with `prepare_layer`. For every key, layout and image

    AugmentedLayer.apply(Morpher.morph(x)) = conv(x) with its output channels in the secret order,

up to rounding (see `mple.morph.augmented`), and the prepared layer gives the same (see `mple.morph.prepared`).
"""

import importlib
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from mple.morph.augmented import AugmentedLayer, build_augmented_layer
    from mple.morph.cores import BlockCore, draw_core
    from mple.morph.morpher import Morpher
    from mple.morph.prepared import PreparedLayer, prepare_layer
    from mple.morph.verify import (
        CONSISTENCY_TOLERANCE,
        NORM_TOLERANCE,
        consistency_response,
        expected_frobenius,
        layer_faults,
        response_deviation,
        stem_deviation,
    )

__all__ = [
    "CONSISTENCY_TOLERANCE",
    "NORM_TOLERANCE",
    "PRESETS",
    "Arithmetic",
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
    "PreparedLayer",
    "build_augmented_layer",
    "consistency_response",
    "draw_core",
    "draw_order",
    "expected_frobenius",
    "expected_weight_shape",
    "gaussians",
    "layer_faults",
    "prepare_layer",
    "response_deviation",
    "stem_deviation",
]

_WITH_TORCH = {
    "AugmentedLayer": "augmented",
    "build_augmented_layer": "augmented",
    "BlockCore": "cores",
    "draw_core": "cores",
    "Morpher": "morpher",
    "PreparedLayer": "prepared",
    "prepare_layer": "prepared",
    "CONSISTENCY_TOLERANCE": "verify",
    "NORM_TOLERANCE": "verify",
    "consistency_response": "verify",
    "expected_frobenius": "verify",
    "layer_faults": "verify",
    "response_deviation": "verify",
    "stem_deviation": "verify",
}
"""Names of modules that import torch, which takes a second: commands that only name keys and schemes do without."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _WITH_TORCH:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_WITH_TORCH[name]}"), name)
