"""Predictions as a page: each picture, its probabilities, and where the network sees evidence for what it says.

It is one file that needs no network, no script and no other file, for its owner alone: it shows patients' pictures.

Legend: C channels, H W size, h w sides of a map of evidence.
"""

import base64
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mple.disk.whole_files import write_whole
from mple.prediction.predictions import Predictions
from mple.prediction.texts import overall_rows, score_rows
from mple.report.page import environment
from mple.report.sample_pictures import png_uri, shown_picture

_SIDE_PX = 224
"""Pictures are shown at least this large, so that evidence can be seen on small ones, too."""
_POSITION_PX = 16
"""Sides of what a position of a map stands for: four pools lie before it."""
_MOST_BARS = 8
_YELLOW, _RED = (255.0, 225.0, 0.0), (215.0, 0.0, 0.0)
_STRONGEST = 0.6
"""How much of the picture the greatest evidence hides."""

Explained = tuple[NDArray[np.uint8], dict[int, NDArray[np.float32]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """The probability of one class."""

    name: str
    chance: float
    said: bool
    true: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlay:
    """Evidence for one class, over the picture."""

    name: str
    picture: str
    """A data URI."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """One picture."""

    name: str
    picture: str
    """A data URI."""
    bars: tuple[Bar, ...]
    overlays: tuple[Overlay, ...]
    wrong: bool
    """The truth is known, and another."""


def write_page(path: Path, predictions: Predictions, explained: Iterable[Explained]) -> None:
    """Write the page, readable by its owner alone.

    Args:
        path: Of the page.
        predictions: All of them.
        explained: Each picture's pixels, and maps of evidence by class, none where the maps are not at hand.

    Raises OSError: it can't be written.
    """
    cards = [*_cards(predictions, explained)]
    template = environment("mple.prediction").get_template("predictions.html.j2")
    text = template.render(
        predictions=predictions,
        cards=cards,
        overall=overall_rows(predictions) if predictions.scores else [],
        rows=score_rows(predictions) if predictions.scores else [],
        position_px=_POSITION_PX,
    )
    write_whole(path, text.encode())


def _cards(predictions: Predictions, explained: Iterable[Explained]) -> Iterator[Card]:
    classes = predictions.classes
    for number, (pixels_CHW, maps) in enumerate(explained):
        said, true = predictions.said(number), predictions.true(number)
        shown = dict.fromkeys([*predictions.likeliest(number, _MOST_BARS), *said, *(true or ())])
        bars = [
            Bar(
                name=classes[place],
                chance=float(predictions.probabilities_NC[number, place]),
                said=place in said,
                true=place in (true or ()),
            )
            for place in shown
        ]
        yield Card(
            name=predictions.names[number],
            picture=png_uri(shown_picture(pixels_CHW)),
            bars=tuple(bars),
            overlays=tuple(
                Overlay(name=classes[place], picture=_overlay_uri(pixels_CHW, evidence))
                for place, evidence in maps.items()
            ),
            wrong=true is not None and not predictions.several and said != true,
        )


def overlay(pixels_CHW: NDArray[np.uint8], evidence_hw: NDArray[np.float32]) -> Image.Image:
    """The picture with evidence over it, from none over yellow to red, scaled by its own greatest value; between the
    positions of the map it is interpolated. The picture is enlarged to `_SIDE_PX` where it is smaller."""
    picture = shown_picture(pixels_CHW).convert("RGB")
    factor = max(1, -(-_SIDE_PX // min(picture.size)))
    picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    strongest = float(evidence_hw.max())
    heat = Image.fromarray((evidence_hw / strongest if strongest > 0 else evidence_hw * 0).astype(np.float32))
    # The last positions may stand for more than there is of the picture, as sides are rounded up at each pool.
    whole = (evidence_hw.shape[1] * _POSITION_PX * factor, evidence_hw.shape[0] * _POSITION_PX * factor)
    heat = heat.resize(whole, Image.Resampling.BILINEAR).crop((0, 0, *picture.size))
    heat_HW1 = np.clip(np.asarray(heat, np.float32), 0, 1)[:, :, None]
    colour = np.array(_YELLOW) * (1 - heat_HW1) + np.array(_RED) * heat_HW1
    hidden = _STRONGEST * heat_HW1
    return Image.fromarray(np.rint(np.asarray(picture) * (1 - hidden) + colour * hidden).astype(np.uint8))


def _overlay_uri(pixels_CHW: NDArray[np.uint8], evidence_hw: NDArray[np.float32]) -> str:
    file = io.BytesIO()
    overlay(pixels_CHW, evidence_hw).save(file, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
