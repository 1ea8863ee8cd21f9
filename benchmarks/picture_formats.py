"""Plain pictures as files of the usual formats, each at its best effort: what morphed pictures have to be held against.

A format has curves (with and without halved colour, where it has the choice), a curve has settings from fine to coarse.
Files hold one picture each; those of a `sheet` many, as a site would pack them that has nothing to hide: so all share
one header and one set of tables.

Legend: N pictures, C channels, H W size.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

Setting = Mapping[str, object]
"""Arguments of the encoder."""
Pixels = NDArray[np.uint8]

_SHEET_COLUMNS = 10
_SHEET_ROWS = 17
_SHEET_PX = 16
"""Pictures of a sheet begin at multiples of it: no block of JPEG's is shared by two, halved colour or not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureFormat:
    """A format, and how it is written and read."""

    name: str
    curves: Sequence[Sequence[Setting]]
    """Without loss: curves of one setting."""
    encode: Callable[[Pixels, Setting], bytes]
    """From a picture (H, W, C), C 1 or 3."""
    decode: Callable[[bytes], Pixels] = field(default=lambda file: _by_pillow(file))
    """To (H, W) or (H, W, C)."""
    lossless: bool = False
    sheet: bool = False
    """Whether a file holds many pictures."""
    needs: Callable[[], str] = field(default=lambda: "")
    """Why it can't be had here, or nothing."""

    def files(self, pixels_NCHW: Pixels, setting: Setting) -> list[bytes]:
        """The files."""
        pictures = _sheets(pixels_NCHW) if self.sheet else pixels_NCHW.transpose(0, 2, 3, 1)
        with ThreadPoolExecutor() as pool:  # encoders work outside of the interpreter's lock
            return list(pool.map(lambda one: self.encode(np.ascontiguousarray(one), setting), pictures))

    def pictures(self, files: Sequence[bytes], like_NCHW: Pixels) -> Pixels:
        """What is in the files, as many pictures and as large as those that they were made from."""
        channels = like_NCHW.shape[1]
        decoded = [_with_channels(self.decode(file), channels) for file in files]
        return _cut(decoded, like_NCHW.shape) if self.sheet else np.stack(decoded).transpose(0, 3, 1, 2)


def measured(of: PictureFormat, setting: Setting, pixels_NCHW: Pixels) -> tuple[float, float]:
    """Bits a value, and PSNR in dB over all pictures' mean squared error (infinite without any)."""
    files = of.files(pixels_NCHW, setting)
    return 8 * sum(map(len, files)) / pixels_NCHW.size, psnr_db(of.pictures(files, pixels_NCHW), pixels_NCHW)


def psnr_db(decoded: Pixels, pixels: Pixels) -> float:
    """Of pictures of 8 bits, from the mean of their squared errors."""
    error = np.square(decoded.astype(np.int32) - pixels).mean()
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def _saved(pixels_HWC: Pixels, kind: str, **arguments: object) -> bytes:
    file = io.BytesIO()
    picture = Image.fromarray(pixels_HWC[:, :, 0] if pixels_HWC.shape[2] == 1 else pixels_HWC)
    picture.save(file, kind, **arguments)
    return file.getvalue()


def _by_pillow(file: bytes) -> Pixels:
    with Image.open(io.BytesIO(file)) as picture:
        return np.asarray(picture)


def _with_channels(pixels: Pixels, channels: int) -> Pixels:
    pixels_HWC = pixels if pixels.ndim == 3 else pixels[:, :, None]
    if pixels_HWC.shape[2] == channels:
        return pixels_HWC
    if channels != 1:
        raise ValueError(f"a file with {pixels_HWC.shape[2]} channels instead of {channels}")
    return pixels_HWC[:, :, 1:2]  # a format without grey: green is nearest to its luminance


def _padded(pixels_NCHW: Pixels) -> Pixels:
    down, right = (-size % _SHEET_PX for size in pixels_NCHW.shape[2:])
    return np.pad(pixels_NCHW, ((0, 0), (0, 0), (0, down), (0, right)), mode="edge")


def _sheets(pixels_NCHW: Pixels) -> list[Pixels]:
    padded, sheets = _padded(pixels_NCHW), []
    each = _SHEET_COLUMNS * _SHEET_ROWS
    for low in range(0, len(padded), each):
        some = padded[low : low + each]
        missing = -len(some) % _SHEET_COLUMNS
        some = np.concatenate([some, np.repeat(some[-1:], missing, 0)])
        _, channels, height, width = some.shape
        rows = some.reshape(-1, _SHEET_COLUMNS, channels, height, width).transpose(0, 3, 1, 4, 2)
        sheets.append(rows.reshape(-1, _SHEET_COLUMNS * width, channels))
    return sheets


def _cut(sheets: Sequence[Pixels], shape: Sequence[int]) -> Pixels:
    count, channels, height, width = shape
    high, wide = height + -height % _SHEET_PX, width + -width % _SHEET_PX
    parts = [
        sheet.reshape(-1, high, _SHEET_COLUMNS, wide, channels)
        .transpose(0, 2, 4, 1, 3)
        .reshape(-1, channels, high, wide)
        for sheet in sheets
    ]
    return np.concatenate(parts)[:count, :, :height, :width]


def _jpeg(pixels_HWC: Pixels, setting: Setting) -> bytes:
    return _saved(pixels_HWC, "JPEG", optimize=True, **setting)


def _webp(pixels_HWC: Pixels, setting: Setting) -> bytes:
    return _saved(pixels_HWC, "WEBP", **{"method": 6, **setting})


def _avif(pixels_HWC: Pixels, setting: Setting) -> bytes:
    grey = {"subsampling": "4:0:0"} if pixels_HWC.shape[2] == 1 else {}
    return _saved(pixels_HWC, "AVIF", speed=6, max_threads=1, advanced={"tune": "psnr"}, **{**setting, **grey})


def _jpeg_xl(pixels_HWC: Pixels, setting: Setting) -> bytes:
    grey = pixels_HWC.shape[2] == 1
    encoded: bytes = importlib.import_module("imagecodecs").jpegxl_encode(
        pixels_HWC[:, :, 0] if grey else pixels_HWC, photometric="gray" if grey else "rgb", numthreads=1, **setting
    )
    return encoded


def _jpeg_xl_pixels(file: bytes) -> Pixels:
    pixels: Pixels = importlib.import_module("imagecodecs").jpegxl_decode(file, numthreads=1)
    return pixels


def _pillow_has(feature: str) -> Callable[[], str]:
    return lambda: "" if features.check(feature) else f"this pillow was built without {feature}"


def _has_jpeg_xl() -> str:
    try:
        found = importlib.import_module("imagecodecs")
    except ImportError:
        return "imagecodecs is not installed"
    return "" if found.JPEGXL.available else "this imagecodecs was built without JPEG XL"


_JPEG = [
    [
        {"quality": quality, "subsampling": colour}
        for quality in (98, 96, 94, 92, 90, 87, 84, 80, 75, 68, 60, 50, 35, 20)
    ]
    for colour in ("4:4:4", "4:2:0")
]
_WEBP = [[{"quality": quality} for quality in (100, 98, 96, 94, 92, 90, 87, 84, 80, 70, 55, 40, 25, 10, 3, 0)]]
_AVIF = [
    [
        {"quality": quality, "subsampling": colour}
        for quality in (97, 94, 91, 88, 84, 80, 75, 70, 62, 54, 45, 35, 25, 12)
    ]
    for colour in ("4:4:4", "4:2:0")
]
_JPEG_XL = [
    [{"distance": d, "effort": 7} for d in (0.15, 0.25, 0.4, 0.6, 0.8, 1.1, 1.5, 2.0, 2.8, 4.0, 6.0, 9.0, 14.0, 20.0)]
]

PNG = PictureFormat(
    name="PNG",
    curves=[[{}]],
    encode=lambda pixels, _setting: _saved(pixels, "PNG", optimize=True),
    lossless=True,
)
FORMATS = (
    PNG,
    PictureFormat(
        name="WebP lossless",
        curves=[[{"lossless": True, "quality": 75, "method": method, "exact": True}] for method in (3, 6)],
        encode=_webp,
        lossless=True,
        needs=_pillow_has("webp"),
    ),
    PictureFormat(
        name="JPEG XL lossless",
        curves=[[{"lossless": True, "effort": 7}]],
        encode=_jpeg_xl,
        decode=_jpeg_xl_pixels,
        lossless=True,
        needs=_has_jpeg_xl,
    ),
    PictureFormat(name="JPEG", curves=_JPEG, encode=_jpeg, needs=_pillow_has("jpg")),
    PictureFormat(name="WebP", curves=_WEBP, encode=_webp, needs=_pillow_has("webp")),
    PictureFormat(name="AVIF", curves=_AVIF, encode=_avif, needs=_pillow_has("avif")),
    PictureFormat(name="JPEG XL", curves=_JPEG_XL, encode=_jpeg_xl, decode=_jpeg_xl_pixels, needs=_has_jpeg_xl),
    PictureFormat(name="JPEG, sheets", curves=_JPEG, encode=_jpeg, sheet=True, needs=_pillow_has("jpg")),
    PictureFormat(name="WebP, sheets", curves=_WEBP, encode=_webp, sheet=True, needs=_pillow_has("webp")),
)
"""At their best effort, but for AVIF: slower than its `speed` 6 gains some 2 % and takes eight times as long."""
