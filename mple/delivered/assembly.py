"""From the trunk that a compute node has trained to the plain VGG-16: a site adds the stem and the two secret orders.

A trunk sees the stem's channels in the order that the sites share, and answers in their order of classes. Only three
places know: the batch norm behind the stem, the inputs of the second convolution, the rows of the last layer. Undone
there, the network is an ordinary one, with the names of torchvision's `vgg16_bn`.

Legend: F filters of the stem, C classes.
"""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mple.delivered.about import NetworkAbout

Tensors: TypeAlias = Mapping[str, NDArray[np.float32]]
"""By name."""
NORM = ("weight", "bias", "running_mean", "running_var")
"""What a batch norm has. Torch counts batches, too; that number has no influence on answers and is left out."""
WEIGHT, BIAS = "classifier.weight", "classifier.bias"
BATCH_NORM_EPSILON = 1e-5
"""Of torch's batch norm, which the network was trained with."""


def layer_places(about: NetworkAbout) -> list[int | None]:
    """What lies where in `features`: the number of each convolution, whose batch norm is the next, None of a pool."""
    places: list[int | None] = []
    at = 0
    for stage in about.channel_counts:
        for _ in stage:
            places.append(at)
            at += 3
        places.append(None)
        at += 1
    return places


def network_shapes(about: NetworkAbout) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of the plain network, by its name."""
    shapes: dict[str, tuple[int, ...]] = {}
    before, side = about.channels, about.kernel
    convolutions = [place for place in layer_places(about) if place is not None]
    for place, count in zip(convolutions, [one for stage in about.channel_counts for one in stage], strict=True):
        shapes[f"features.{place}.weight"] = (count, before, side, side)
        shapes[f"features.{place}.bias"] = (count,)
        shapes |= {f"features.{place + 1}.{name}": (count,) for name in NORM}
        before, side = count, 3
    return shapes | {WEIGHT: (len(about.classes), before), BIAS: (len(about.classes),)}


def plain_network(
    about: NetworkAbout,
    trunk: Tensors,
    stem_FCpp: NDArray[np.float32],
    channel_order: NDArray[np.int64],
    label_order: NDArray[np.int64],
) -> dict[str, NDArray[np.float32]]:
    """All tensors of the plain network, named as in torchvision's `vgg16_bn`; its convolutions' biases are zero.

    Args:
        about: The network.
        trunk: Names and tensors as `mple.model.vgg16.Vgg16Trunk` has them.
        stem_FCpp: The first convolution.
        channel_order: (F); place j of what the trunk takes holds feature `order[j]` of the stem.
        label_order: (C); place j of what the trunk answers is class `order[j]`.

    Raises ValueError: a tensor is missing, unknown, of another shape or not finite; the text names it.
    """
    convolutions = [place for place in layer_places(about) if place is not None]
    found: dict[str, NDArray[np.float32]] = {"features.0.weight": stem_FCpp}
    # A trunk's layers lie one place before a whole network's, which has the stem in front.
    for name, tensor in trunk.items():
        if name.endswith(".num_batches_tracked"):
            continue
        part, _, rest = name.partition(".")
        at, _, what = rest.partition(".")
        known = part == "features" and at.isdecimal()
        found[f"features.{int(at) + 1}.{what}" if known else name.replace("classifier.3.", "classifier.")] = tensor
    shapes = network_shapes(about)
    for place in convolutions:
        found[f"features.{place}.bias"] = np.zeros(shapes[f"features.{place}.bias"], np.float32)
    require_network(found, about, "the trunk")
    channels, labels = np.argsort(channel_order), np.argsort(label_order)
    for what in NORM:
        found[f"features.1.{what}"] = found[f"features.1.{what}"][channels]
    second = f"features.{convolutions[1]}.weight"
    found[second] = found[second][:, channels]
    found[WEIGHT], found[BIAS] = found[WEIGHT][labels], found[BIAS][labels]
    return {name: np.ascontiguousarray(found[name]) for name in shapes}


def require_network(tensors: Tensors, about: NetworkAbout, where: str) -> None:
    """Raise ValueError when tensors are not those of the plain network; `where` says whose they are."""
    shapes = network_shapes(about)
    wrong = sorted(shapes.keys() ^ tensors.keys())
    if wrong:
        what = "lacks" if wrong[0] in shapes else "has"
        raise ValueError(f"{where} {what} the tensor {wrong[0][:80]!r}; it is not the network that the run trains")
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tensor.shape != shape:
            raise ValueError(f"{where}: {name} has shape {tensor.shape}, the run's network has {shape}")
        if tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            raise ValueError(f"{where}: {name} is {tensor.dtype} or has NaN or infinity; needs finite float32")
