"""What a picture file says on how it is shown, beside its values: orientation, colour profile, gamma.

A picture is what a viewer shows. What viewers disagree on (gamma and primaries of a PNG) is refused.

Legend: C channels, H W size.
"""

import functools
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps, TiffImagePlugin

from mple.data.images import DataError

_ORIENTATION = ExifTags.Base.Orientation
_ON_ITS_SIDE = (5, 6, 7, 8)
_PNG_METADATA = {b"eXIf", b"iTXt", b"tEXt", b"zTXt"}
_SRGB_GAMMA = 1 / 2.2
_SRGB_PRIMARIES = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_SRGB_CODES = (1, 13)
"""Of primaries and of the transfer function, in the chunk cICP."""
_NO_DIFFERENCE = 2
"""Levels out of 255 that writers of the same profile differ by."""


def shown_size(picture: ImageFile.ImageFile, path: Path) -> tuple[int, int]:
    """Width and height as shown, of a picture that is open but not yet decoded.

    Guarantees: as what `turned` gives later. Pixels are decoded only of a PNG with metadata behind them.
    """
    width, height = picture.size
    if picture.format == "PNG":
        kinds = [kind for kind, _ in _png_chunks(path)]
        behind = kinds[kinds.index(b"IDAT") :] if b"IDAT" in kinds else []
        if _PNG_METADATA & set(behind):
            picture.load()
    if isinstance(picture, TiffImagePlugin.TiffImageFile) and _ORIENTATION in picture.tag_v2:
        return width, height  # Pillow has looked at this tag, and turns the pixels when it decodes them
    # A PNG without metadata would be decoded by its own `getexif`.
    return (height, width) if Image.Image.getexif(picture).get(_ORIENTATION) in _ON_ITS_SIDE else (width, height)


def turned(levels: Image.Image, picture: ImageFile.ImageFile) -> Image.Image:
    """Levels of a picture as its file, which has been decoded, says that they are shown: equal to what
    `ImageOps.exif_transpose` makes of the file."""
    orientation = picture.getexif().get(_ORIENTATION, 1)  # of a TIFF it is gone, for its pixels are turned
    levels.getexif()[_ORIENTATION] = orientation
    return ImageOps.exif_transpose(levels)


def refuse_other_gamma(picture: ImageFile.ImageFile, path: Path) -> None:
    """Refuse a PNG whose values stand for other light than sRGB's, which some viewers obey and others don't.

    Raises DataError: it has a gamma more than 5 % beside 1/2.2 or other primaries than sRGB's, and no colour profile
    that goes before; or it says that it is coded for video (cICP).
    """
    if picture.format != "PNG":
        return
    says = ""
    for kind, body in _png_chunks(path):
        if kind == b"cICP" and (len(body) != 4 or tuple(body[:2]) != _SRGB_CODES):
            says = f"the colour code {list(body)} (cICP)"
    info: dict[Any, Any] = picture.info
    if not says and "srgb" not in info and not info.get("icc_profile"):
        gamma, primaries = info.get("gamma"), info.get("chromaticity")
        if gamma is not None and abs(gamma / _SRGB_GAMMA - 1) > 0.05:
            says = f"the gamma {gamma:g} (gAMA)"
        elif primaries is not None and max(map(_distance, primaries, _SRGB_PRIMARIES)) > 0.01:
            says = "other primaries than sRGB (cHRM)"
    if says:
        raise DataError(
            f"picture {path} has {says}, which viewers treat differently; save it as sRGB, or without this if its "
            "values are meant as they are: pngcrush -rem gAMA -rem cHRM -rem cICP in.png out.png"
        )


def in_srgb(levels: NDArray[np.uint8], profile: bytes | None, path: Path) -> NDArray[np.uint8]:
    """Levels (H, W) or (H, W, 3) by the colour profile of their file, as sRGB has them.

    Guarantees: with a profile for other colours than the picture's, and with sRGB's own, by whomever written, they are
    as they were.

    Raises DataError: the profile can't be read, or is None: Pillow could not put it together.
    """
    try:
        table = _srgb_of(profile or b"", levels.ndim == 2)
    except OSError as fault:
        raise DataError(f"picture {path} has a colour profile that can't be read ({fault}); remove it") from None
    if table is None:
        return levels
    if isinstance(table, np.ndarray):
        return table[levels]
    from PIL import ImageCms

    return np.asarray(ImageCms.applyTransform(Image.fromarray(levels), table))


@functools.lru_cache(maxsize=8)
def _srgb_of(profile: bytes, grey: bool) -> Any:
    """A table of 256 levels for grey, a transform for colour, None where nothing changes."""
    # Loading it takes a library that few sets need.
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != ("GRAY" if grey else "RGB"):
            return None
        target = ImageCms.createProfile("sRGB")
        # By default a grey curve goes through a coarse table, which bends its dark end.
        flags = ImageCms.Flags.NOOPTIMIZE if grey else ImageCms.Flags.NONE
        transform = ImageCms.buildTransform(source, target, "L" if grey else "RGB", "RGB", flags=flags)
        steps = np.arange(256, dtype=np.uint8) if grey else np.arange(0, 256, 17, dtype=np.uint8)
        probe = steps[None] if grey else np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
        found = np.asarray(ImageCms.applyTransform(Image.fromarray(probe), transform))
    except (ImageCms.PyCMSError, ImportError) as fault:  # Pillow can be built without the library
        raise OSError(str(fault)) from None
    asked = probe[..., None] if grey else probe
    if np.abs(found.astype(np.int64) - asked).max() <= _NO_DIFFERENCE:
        return None
    return found[0, :, 1] if grey else transform


def _png_chunks(path: Path) -> list[tuple[bytes, bytes]]:
    """Kinds of a PNG's chunks, and what the small ones hold."""
    found = []
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            found.append((kind, file.read(length) if length <= 16 else b""))
            file.seek(4 if length <= 16 else length + 4, io.SEEK_CUR)
    return found


def _distance(one: float, other: float) -> float:
    return abs(one - other)
