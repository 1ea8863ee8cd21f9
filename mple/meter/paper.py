"""The overhead as the papers count it: in elements, whatever an element costs in bytes.

The published 5.12 % for CIFAR equals N² / (images x N) = N / images = 3072 / 60000: the size of the secret matrix,
which is never sent, over that of the data set. The layer that is sent, and that every value takes 4 bytes as float32
where a pixel takes one, are not in it. Both counts stand side by side here.
"""

import math
from dataclasses import dataclass

from mple.morph import ImageShape, MorphGeometry, MorphScheme, expected_weight_shape


@dataclass(frozen=True, kw_only=True, slots=True)
class ElementCount:
    """Elements of a run, relative to its pixels."""

    quoted_ratio: float
    """The papers' formula, N / images, as extra over 1."""
    sent_ratio: float
    """Morphed elements and layer elements of all sites over pixel values; 1 means no more than the pixels."""


def count_elements(
    scheme: MorphScheme, image: ImageShape, *, images: int, sites: int, filters: int, kernel: int
) -> ElementCount:
    """Count elements for `images` images over `sites` sites, each of which sends one layer."""
    layer = math.prod(expected_weight_shape(scheme, image, filters, kernel))
    morphed = MorphGeometry.of(scheme, image).morphed_elements
    pixels = images * image.elements
    return ElementCount(quoted_ratio=image.elements / images, sent_ratio=(images * morphed + sites * layer) / pixels)
