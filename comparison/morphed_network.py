"""MpLe's part of a comparison that is not the two parties': the network in a secret channel order, and its accuracy.

A trunk that was trained on morphed pictures takes features in the consortium's secret order. Here an order is drawn and
the network's second stage put into it, as if it had been trained so: the logits stay what they were.

Legend: N pictures, C channels, H W size, F filters of the stem.
"""

import secrets
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from comparison.networks.quantised import ExactStage, QuantisedNetwork
from comparison.two_party.morphed_upload import WIRE, image_of, unit_of
from comparison.two_party.public_network import PublicNetwork
from mple.morph import PRESETS, MorphGeometry, MorphKey, draw_order, expected_weight_shape
from mple.morph.morpher import Morpher, to_blocks
from mple.wire.codecs import codec_named
from mple.wire.layer_dtype import weight_bytes

_AT_ONCE = 100


def secret_order(filters: int) -> NDArray[np.int64]:
    """A channel order from the system's randomness."""
    return draw_order(secrets.token_bytes(32), "comparison", filters)


def in_order(network: QuantisedNetwork, order: NDArray[np.int64]) -> QuantisedNetwork:
    """The network whose first stage's features come in an order; its first weights stay the public stem's.

    Raises ValueError: the second stage is dense: its inputs are no channels.
    """
    first, second, *rest = network.stages
    if second.weights_OIpp.shape[1] != len(order):
        raise ValueError(f"stage {second.name!r} does not take {len(order)} channels")
    return replace(
        network,
        stages=(
            replace(first, bias_O=first.bias_O[order]),
            replace(second, weights_OIpp=np.ascontiguousarray(second.weights_OIpp[:, order])),
            *rest,
        ),
    )


def expected_layer_bytes(form: PublicNetwork, preset: str) -> int:
    """Numbers of the augmented layer."""
    first = form.stages[0]
    shape = expected_weight_shape(PRESETS[preset], image_of(form), first.outputs, first.kernel)
    return weight_bytes(shape, WIRE.layer)


def expected_code_bytes(form: PublicNetwork, preset: str, pictures_NCHW: NDArray[np.uint8]) -> list[float]:
    """Of each picture: an orthogonal core keeps the root mean square of a block, and the codes' entropy follows."""
    scheme, image = PRESETS[preset], image_of(form)
    geometry = MorphGeometry.of(scheme, image)
    units_NCHW = form.integers_of(pictures_NCHW).astype(np.float64) / unit_of(form)
    rms_NK = np.sqrt(np.square(to_blocks(units_NCHW, scheme, geometry)).mean(2))
    codec = codec_named(WIRE.codec)
    bits = [codec.bits_a_value(rms_K, geometry.core_side) for rms_K in rms_NK]
    return [geometry.morphed_elements * of_value / 8 for of_value in bits]


def morphed_accuracy(
    network: QuantisedNetwork,
    form: PublicNetwork,
    preset: str,
    pictures_NCHW: NDArray[np.uint8],
    labels_N: Sequence[int] | NDArray[np.int64],
) -> float:
    """Share of pictures that the network classifies rightly from their codes. What codes lose is put onto the pictures,
    where the first stage is the plain one: rounding of the layer's numbers, an eighth of that, is left out."""
    scheme, image, codec = PRESETS[preset], image_of(form), codec_named(WIRE.codec)
    geometry, unit = MorphGeometry.of(scheme, image), unit_of(form)
    morpher = Morpher(scheme, image, MorphKey.generate(), session=b"accuracy", key_epoch=1)
    stages = [ExactStage(stage) for stage in network.stages]
    kernels_FCpp = torch.from_numpy(network.stages[0].weights_OIpp).float()
    bias_F11 = torch.from_numpy(network.stages[0].bias_O)[:, None, None]
    correct = 0
    for low in range(0, len(pictures_NCHW), _AT_ONCE):
        integers_BCHW = form.integers_of(pictures_NCHW[low : low + _AT_ONCE])
        units_BCHW = integers_BCHW.astype(np.float32) / np.float32(unit)
        decoded = codec.decode(codec.encode(morpher.morph(units_BCHW)), geometry.blocks)
        seen_BCHW = torch.from_numpy(np.ascontiguousarray(morpher.unmorph(decoded))) * unit
        features_BFHW = torch.nn.functional.conv2d(seen_BCHW, kernels_FCpp, padding=kernels_FCpp.shape[2] // 2)
        x_BCHW, _ = stages[0].activated(features_BFHW.round() + bias_F11)
        for stage in stages[1:]:
            x_BCHW, _ = stage.activated(stage.sums(x_BCHW))
        classes_B = x_BCHW.reshape(len(x_BCHW), -1).argmax(1).numpy()
        correct += int((classes_B == np.asarray(labels_N[low : low + _AT_ONCE])).sum())
    return correct / len(pictures_NCHW)
