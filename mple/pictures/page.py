"""A page with some pictures of each class and split, to see with one's own eyes what a run would train on.

It is one file that needs no network, no script and no other file, for its owner alone: it shows patients' pictures.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mple.data import Dataset, LabelledImages
from mple.disk.whole_files import write_whole
from mple.pictures.description import Description, has_class
from mple.report.page import environment
from mple.report.sample_pictures import png_uri, shown_picture

_SIDE_PX = 112
"""Longest side of a picture in the page; larger ones are shown smaller."""
_MOST = 1_200
"""Pictures in a page, so that many classes do not make it huge."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """Some pictures of one class in one split."""

    split: str
    pictures: tuple[str, ...]
    """Data URIs."""
    of: int
    """How many there are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassStrips:
    """One class or label."""

    name: str
    strips: tuple[Strip, ...]


def write_page(path: Path, found: Description, dataset: Dataset, each: int) -> None:
    """Write the page, readable by its owner alone, with at most `each` pictures of a class in a split, spread evenly
    over those that there are; fewer where classes are many.

    Raises OSError: it can't be written.
    """
    strips = len(found.classes) * len(found.splits)
    each = max(1, min(each, _MOST // max(1, strips)))
    classes = [
        ClassStrips(name=name, strips=tuple(_strips(found, dataset, number, each)))
        for number, name in enumerate(found.classes)
    ]
    template = environment("mple.pictures").get_template("pictures.html.j2")
    write_whole(path, template.render(found=found, classes=classes, side_px=_SIDE_PX).encode())


def _strips(found: Description, dataset: Dataset, number: int, each: int) -> Iterator[Strip]:
    for split in found.splits:
        images: LabelledImages = getattr(dataset, split.name)
        places = np.flatnonzero(has_class(images.labels, len(found.classes))[:, number])
        chosen = places[np.linspace(0, len(places) - 1, min(each, len(places))).astype(np.int64)]
        if not len(places):
            continue
        pictures = tuple(_thumbnail(images.pixels_NCHW[place]) for place in chosen)
        yield Strip(split=split.name, pictures=pictures, of=len(places))


def _thumbnail(picture_CHW: NDArray[np.uint8]) -> str:
    picture = shown_picture(picture_CHW)
    if max(picture.size) > _SIDE_PX:
        picture.thumbnail((_SIDE_PX, _SIDE_PX), Image.Resampling.LANCZOS)
    return png_uri(picture)
