"""Pictures of an attack as PNG: original, morphed, recovered, each row with its PSNR and SSIM.

A gallery shows pictures in the clear, and beside them their morphed forms: whoever has it has known pairs.

Legend: N pictures, C channels, H W size, K blocks, Q core side.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mple.attacks.lab.ground_truth import GroundTruth
from mple.attacks.lab.scoring import PictureScore
from mple.attacks.means.blocks import pictures_of

_SHOWN = 6
_LEAST_PX = 96
"""Width of a picture as drawn; smaller ones are enlarged by a whole factor, without smoothing."""
_MARGIN, _LINE, _HEADER, _NOTE = 8, 14, 38, 120
_SPREAD = 2.5
"""Morphed values are drawn from so many times their root mean square below zero to as many above."""


def gallery(title: str, scored: PictureScore, truth: GroundTruth, t_NKQ: Tensor) -> bytes:
    """The PNG: pictures spread evenly from the worst to the best SSIM.

    Args:
        title: One line above.
        scored: The pictures and their scores.
        truth: For the originals.
        t_NKQ: Morphed blocks of the same pictures, in their order.
    """
    ranked = np.argsort(scored.ssim_N)
    places = ranked[np.unique(np.linspace(0, len(ranked) - 1, min(_SHOWN, len(ranked))).round().astype(int))]
    recovered = scored.recovered
    columns = (
        ("original", truth.sites[recovered.site].train.pixels_NCHW[recovered.numbers_N[places]]),
        ("morphed", _drawn(_laid_out(t_NKQ[places], truth))),
        ("recovered", np.clip(recovered.pixels_NCHW[places].round(), 0, 255).astype(np.uint8)),
    )
    _, _, high, wide = columns[0][1].shape
    factor = max(1, -(-_LEAST_PX // wide))
    high, wide = high * factor, wide * factor
    size = (_MARGIN + 3 * (wide + _MARGIN) + _NOTE, _HEADER + len(places) * (high + _MARGIN) + _LINE)
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    draw.text((_MARGIN, 4), title, "black", font)
    for column, (heading, pixels_NCHW) in enumerate(columns):
        left = _MARGIN + column * (wide + _MARGIN)
        draw.text((left, 4 + _LINE), heading, "black", font)
        for row, picture_CHW in enumerate(pixels_NCHW):
            picture = _image(picture_CHW).resize((wide, high), Image.Resampling.NEAREST)
            sheet.paste(picture, (left, _HEADER + row * (high + _MARGIN)))
    for row, place in enumerate(places):
        text = f"PSNR {scored.psnr_N[place]:.1f} dB\nSSIM {scored.ssim_N[place]:.4f}"
        draw.text((_MARGIN + 3 * (wide + _MARGIN), _HEADER + row * (high + _MARGIN) + high // 3), text, "black", font)
    return _png(sheet)


def _laid_out(t_NKQ: Tensor, truth: GroundTruth) -> NDArray[np.float32]:
    laid: NDArray[np.float32] = pictures_of(t_NKQ, truth.plan).numpy()
    return laid


def _drawn(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    spread = _SPREAD * float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) or 1.0
    drawn: NDArray[np.uint8] = np.clip(127.5 + 127.5 * values / spread, 0, 255).astype(np.uint8)
    return drawn


def _image(picture_CHW: NDArray[np.uint8]) -> Image.Image:
    """Three channels in colour, any other number as the grey of their mean."""
    if len(picture_CHW) == 3:
        return Image.fromarray(np.ascontiguousarray(picture_CHW.transpose(1, 2, 0)))
    return Image.fromarray(picture_CHW.mean(axis=0).round().astype(np.uint8)).convert("RGB")


def _png(sheet: Image.Image) -> bytes:
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()
