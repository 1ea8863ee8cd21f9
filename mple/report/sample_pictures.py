"""Some of each site's pictures, and some others as they travel, as PNG for a page.

The site's node has kept them in its own state folder where its configuration wants them
(`provider_node/feeding/sample_pictures.py`); where there are none, there are none here.
"""

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mple.plan import RunPlan
from mple.records.run_folder import RunFolder
from mple.records.sample_pictures import read_pictures
from mple.records.state_files import PICTURES

_MOST_BYTES = 3_000_000
"""Of pixels in a page, so that large pictures of many sites don't make it huge."""
_SPREAD = 2.5
"""Morphed values are drawn from so many times their root mean square below zero to as many above."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SitePictures:
    """Pictures of one site as data URIs."""

    site: str
    seen: tuple[str, ...]
    """As the site has them."""
    travelling: tuple[str, ...]
    """Codes of others, decoded without the key."""


def sample_pictures(folder: RunFolder, plan: RunPlan) -> list[SitePictures]:
    """The kept pictures of a run folder's sites, as many of each as make no huge page."""
    each = max(1, _MOST_BYTES // (2 * plan.image.elements * len(plan.sites)))
    found = []
    for site in plan.sites:
        pictures = read_pictures(folder.state(site.name) / PICTURES.format(plan.run_id))
        if pictures is not None and pictures.pixels_NCHW.shape[1:] == (plan.channels, plan.height, plan.width):
            seen, travelling = _uris(pictures.pixels_NCHW[:each]), _uris(_drawn(pictures.travelling_NCHW)[:each])
            found.append(SitePictures(site=site.name, seen=seen, travelling=travelling))
    return found


def _drawn(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    spread = _SPREAD * float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) or 1.0
    drawn: NDArray[np.uint8] = np.clip(127.5 + 127.5 * values / spread, 0, 255).astype(np.uint8)
    return drawn


def _uris(pixels_NCHW: NDArray[np.uint8]) -> tuple[str, ...]:
    return tuple(png_uri(shown_picture(picture)) for picture in pixels_NCHW)


def shown_picture(picture_CHW: NDArray[np.uint8]) -> Image.Image:
    """A picture to look at: three channels in colour, any other number as the grey of their mean."""
    if len(picture_CHW) == 3:
        return Image.fromarray(np.ascontiguousarray(picture_CHW.transpose(1, 2, 0)))
    return Image.fromarray(picture_CHW.mean(axis=0).round().astype(np.uint8))


def png_uri(image: Image.Image) -> str:
    """A picture as the data URI of a PNG, for a page that needs no other file."""
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
