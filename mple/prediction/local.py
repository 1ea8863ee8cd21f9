"""Prediction by a delivered network, on this machine: no other party, no key, no torch.

Legend: N pictures, B of them at once, C classes or labels, K of them, F maps.
"""

from collections.abc import Iterator
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from mple.delivered.assembly import WEIGHT
from mple.delivered.folder import WEIGHTS, DeliveredNetwork
from mple.delivered.running import PlainNetwork
from mple.morph import ImageShape
from mple.plan import SiteSettings
from mple.prediction.class_maps import class_maps
from mple.prediction.options import PredictOptions
from mple.prediction.pictures import Pictures, listed_files, picture_files, test_images
from mple.prediction.predictions import Predictions

_AT_ONCE = 32
_MOST_EXPLAINED = 3
"""Labels of a picture that are shown as present."""


def wanted_pictures(network: DeliveredNetwork, options: PredictOptions, settings: SiteSettings | None) -> Pictures:
    """The pictures that are asked for, read as the network's site read those of training.

    Args:
        network: The folder.
        options: Which pictures.
        settings: The site's, where there are such.

    Raises ValueError: the folder lacks `model.safetensors`, pictures can't be used, the site's test images are wanted
    without its settings, or its `[data]` reads pictures otherwise than the network was trained on.
    """
    about, reading = network.record.about, network.record.reading
    if WEIGHTS not in network.record.sha256:
        raise ValueError(f"{network.folder} has no {WEIGHTS}, which predictions need; export the network with it")
    image = ImageShape(channels=about.channels, height=about.height, width=about.width)
    if settings is not None:
        _refuse_other_reading(network, settings)
    if options.test is not None:
        if settings is None:
            raise ValueError("--test needs the site's configuration; without one name files, or --labels FILE")
        return test_images(settings.data, options.test, image, about.classes, about.task)
    if options.labels is not None:
        return listed_files(reading, options.labels, about.classes, about.task, image, resize=options.resize)
    return picture_files(reading, options.images, image, resize=options.resize)


def predicted(network: DeliveredNetwork, pictures: Pictures) -> Predictions:
    """What a delivered network says of pictures.

    Raises ValueError: a picture can't be read, or a file of the network is damaged.
    """
    about, asked = network.record.about, network.plain()
    logits = [asked.logits(pixels_BCHW) for pixels_BCHW in _groups(pictures)]
    return Predictions(
        run_id=about.run_id,
        plan_sha256=about.plan_sha256,
        classes=about.classes,
        task=about.task,
        names=pictures.names,
        logits_NC=np.concatenate(logits).astype(np.float64),
        labels=pictures.labels,
        thresholds=network.record.thresholds,
    )


def explained(
    network: DeliveredNetwork, pictures: Pictures, predictions: Predictions
) -> Iterator[tuple[NDArray[np.uint8], dict[int, NDArray[np.float32]]]]:
    """Each picture's pixels (C, H, W), and by class the evidence for it (h, w), see `class_maps`: for what the network
    says, or for the likeliest label where it says none, and for what is true.

    Raises ValueError: as `predicted`.
    """
    tensors = network.tensors()
    asked, number = PlainNetwork(tensors, network.record.about), 0
    for pixels_BCHW in _groups(pictures):
        _, maps_BFHW = asked.logits_and_maps(pixels_BCHW)
        for pixels_CHW, maps_FHW in zip(pixels_BCHW, maps_BFHW, strict=True):
            places = explained_classes(predictions, number)
            found_KHW = class_maps(maps_FHW[None], tensors[WEIGHT], np.array([places]))[0]
            yield pixels_CHW, dict(zip(places, found_KHW, strict=True))
            number += 1


def explained_classes(predictions: Predictions, number: int) -> list[int]:
    """The classes of a picture that a page shows the evidence for."""
    said = predictions.said(number)[:_MOST_EXPLAINED] or predictions.likeliest(number, 1)
    true = (predictions.true(number) or [])[:_MOST_EXPLAINED]
    return list(dict.fromkeys([*said, *true]))


def _groups(pictures: Pictures) -> Iterator[NDArray[np.uint8]]:
    for low in range(0, len(pictures), _AT_ONCE):
        yield pictures.read(slice(low, low + _AT_ONCE))


def _refuse_other_reading(network: DeliveredNetwork, settings: SiteSettings) -> None:
    own, trained = settings.data.reading(), network.record.reading
    for field in fields(trained):
        if field.name != "most_bytes" and getattr(own, field.name) != getattr(trained, field.name):
            raise ValueError(
                f"the configuration reads pictures with {field.name} = {getattr(own, field.name)}, the "
                f"network was trained on pictures read with {getattr(trained, field.name)}: set it back, or name the "
                f"network alone: --model {network.folder}"
            )
