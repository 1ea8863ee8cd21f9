"""Pictures as their files say that they are shown: orientation, colour profile, gamma."""

import io
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from mple.data import DataError, open_source
from mple.data.folder import FolderSource
from mple.data.picture_files import PictureFiles, read_picture
from tests.support.colour_profiles import matrix_profile, srgb_levels
from tests.support.picture_bytes import exif_bytes, png_bytes, tiff_bytes, xmp_bytes

CASES = Path(__file__).parent / "cases"
GREY = np.arange(6, dtype=np.uint8).reshape(2, 3) * 50
DEEP = np.array([[0, 257, 514], [25700, 51400, 65535]], np.uint16)
COLOUR = np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 14
FLAT = np.full((2, 3), 77, np.uint8)
"""JPEG would change anything else; its turned pixels are looked at in a test of their own."""
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}
"""What EXIF's orientations mean, as where row 0 and column 0 of what is stored are shown."""


def _xmp_chunk(orientation: int) -> tuple[bytes, bytes]:
    return b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp_bytes(orientation)


def _raw_profile(orientation: int) -> tuple[bytes, bytes]:
    exif = exif_bytes(orientation)
    text = b"\nexif\n%8d\n%s\n" % (len(exif) + 6, (b"Exif\0\0" + exif).hex().encode())
    return b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)


def _saved(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def _exif(orientation: int) -> bytes:
    return b"Exif\0\0" + exif_bytes(orientation)


def _with_xmp(jpeg: bytes, orientation: int) -> bytes:
    body = b"http://ns.adobe.com/xap/1.0/\0" + xmp_bytes(orientation)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


WRITERS: dict[str, tuple[np.ndarray, Callable[[int], bytes]]] = {
    "png-before": (GREY, lambda o: png_bytes(GREY, (b"eXIf", exif_bytes(o)))),
    "png-behind": (GREY, lambda o: png_bytes(GREY, behind=[(b"eXIf", exif_bytes(o, ">"))])),
    "png-16": (DEEP // 257, lambda o: png_bytes(DEEP, (b"eXIf", exif_bytes(o)))),
    "png-colour": (COLOUR, lambda o: png_bytes(COLOUR, behind=[(b"eXIf", exif_bytes(o))])),
    "png-xmp-before": (GREY, lambda o: png_bytes(GREY, _xmp_chunk(o))),
    "png-xmp-behind": (GREY, lambda o: png_bytes(GREY, behind=[_xmp_chunk(o)])),
    "png-raw-profile": (GREY, lambda o: png_bytes(GREY, behind=[_raw_profile(o)])),
    "png-wide-colour": (COLOUR, lambda o: png_bytes(COLOUR * np.uint16(257), (b"eXIf", exif_bytes(o)))),
    "tiff-8": (GREY, lambda o: tiff_bytes(GREY, 1, t274=[o])),
    "tiff-8-inverted": (255 - GREY, lambda o: tiff_bytes(GREY, 0, ">", t274=[o])),
    "tiff-16": (DEEP // 257, lambda o: tiff_bytes(DEEP, 1, ">", t274=[o])),
    "tiff-16-packed": (DEEP // 257, lambda o: tiff_bytes(DEEP, 1, "<", packed=True, t274=[o])),
    "tiff-wide-colour": (COLOUR, lambda o: tiff_bytes(COLOUR * np.uint16(257), 2, t274=[o])),
    "tiff-wide-packed": (COLOUR, lambda o: tiff_bytes(COLOUR * np.uint16(257), 2, ">", packed=True, t274=[o])),
    "tiff-xmp": (GREY, lambda o: tiff_bytes(GREY, 1, t700=xmp_bytes(o))),
    "webp": (COLOUR, lambda o: _saved(COLOUR, "WEBP", lossless=True, exact=True, exif=_exif(o))),
    "webp-xmp": (COLOUR, lambda o: _saved(COLOUR, "WEBP", lossless=True, exact=True, xmp=xmp_bytes(o))),
    "jpeg-xmp": (FLAT, lambda o: _with_xmp(_saved(FLAT, "JPEG"), o)),
    "jpeg": (FLAT, lambda o: _saved(FLAT, "JPEG", exif=_exif(o))),
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("name", WRITERS)
def test_orientation_turns_size_and_pixels_in_every_format(tmp_path: Path, name: str, orientation: int) -> None:
    stored, write = WRITERS[name]
    path = tmp_path / "picture"
    path.write_bytes(write(orientation))
    right = TURNS[orientation](stored)
    header = PictureFiles().header(path)
    assert (header.height, header.width) == right.shape[:2]
    np.testing.assert_array_equal(np.asarray(PictureFiles().picture(path)), right)
    with Image.open(io.BytesIO(path.read_bytes())) as picture:
        shown = ImageOps.exif_transpose(picture)
    assert shown.size == (header.width, header.height)
    if "16" not in name and "wide" not in name:
        np.testing.assert_array_equal(np.asarray(shown), right)


@pytest.mark.parametrize(("exif", "xmp"), [(6, 6), (1, 6), (6, 3), (8, 1), (5, 5)])
def test_exif_goes_before_xmp_and_a_picture_is_turned_once(tmp_path: Path, exif: int, xmp: int) -> None:
    both = {
        "png": png_bytes(GREY, (b"eXIf", exif_bytes(exif)), _xmp_chunk(xmp)),
        "png-behind": png_bytes(GREY, _xmp_chunk(xmp), behind=[(b"eXIf", exif_bytes(exif))]),
        "tiff": tiff_bytes(GREY, 1, t274=[exif], t700=xmp_bytes(xmp)),
        "tiff-packed": tiff_bytes(GREY, 1, ">", packed=True, t274=[exif], t700=xmp_bytes(xmp)),
    }
    right = TURNS[exif](GREY)
    for name, content in both.items():
        (tmp_path / name).write_bytes(content)
        header = PictureFiles().header(tmp_path / name)
        assert (header.height, header.width) == right.shape, name
        np.testing.assert_array_equal(np.asarray(PictureFiles().picture(tmp_path / name)), right, err_msg=name)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_means_nothing_changes_nothing(tmp_path: Path, orientation: int) -> None:
    for name in ("png-before", "tiff-8", "webp"):
        stored, write = WRITERS[name]
        (tmp_path / name).write_bytes(write(orientation))
        np.testing.assert_array_equal(np.asarray(PictureFiles().picture(tmp_path / name)), stored)


def test_the_jpeg_that_lies_upside_down() -> None:
    path = CASES / "exif3_jpeg_upside_down.jpg"
    with Image.open(path) as picture:
        right = np.asarray(ImageOps.exif_transpose(picture))
        stored = np.asarray(picture)
    found = np.asarray(PictureFiles().picture(path))
    np.testing.assert_array_equal(found, right)
    np.testing.assert_array_equal(found, stored[::-1, ::-1])


def test_a_turned_jpeg_is_turned_in_a_set_and_in_a_single_reading(tmp_path: Path) -> None:
    # Left half black, right half white, turned by 90 degrees to the right: the upper half is black.
    stored = np.zeros((16, 32), np.uint8)
    stored[:, 16:] = 255
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "x.jpg").write_bytes(_saved(stored, "JPEG", quality=100, exif=_exif(6)))
    dataset = open_source(FolderSource(path=tmp_path / "set", test_share=0.0))
    assert (dataset.train.shape.height, dataset.train.shape.width) == (32, 16)
    picture = read_picture(tmp_path / "set/a/x.jpg", (1, 32, 16), PictureFiles())
    for pixels in (dataset.train.pixels_NCHW[0, 0], picture[0]):
        assert (pixels[:15].max(), pixels[17:].min()) == (0, 255)


def test_headers_of_plain_pngs_need_no_pixels(tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    content = png_bytes(GREY, (b"eXIf", exif_bytes(6)))
    start = content.index(b"IDAT") + 4
    path.write_bytes(content[:start] + bytes(8) + content[start + 8 :])
    assert (PictureFiles().header(path).width, PictureFiles().header(path).height) == (2, 3)
    with pytest.raises(DataError, match="can't be read"):
        PictureFiles().picture(path)


def test_damaged_exif_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(png_bytes(GREY, (b"eXIf", b"no exif at all")))
    for read in (PictureFiles().header, PictureFiles().picture):
        with pytest.raises(DataError, match=r"x\.png can't be read"):
            read(path)


def test_exif_that_ends_early_is_refused_by_name(tmp_path: Path) -> None:
    exif = exif_bytes(6)
    path = tmp_path / "x.jpg"
    path.write_bytes(_saved(FLAT, "JPEG", exif=b"Exif\0\0" + exif[:8] + b"\2\0" + exif[10:14]))
    with pytest.raises(DataError, match=r"x\.jpg can't be read: Corrupt EXIF"):
        PictureFiles().header(path)


def _profile(name: str) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()  # type: ignore[arg-type]


RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize("gamma", [1.0, 1.8, 3.0])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_profile_is_applied(tmp_path: Path, kind: str, gamma: float) -> None:
    grey = kind != "WEBP"
    pixels = RAMP if grey else np.stack([RAMP] * 3, axis=-1)
    path = tmp_path / "x"
    profile = matrix_profile(b"GRAY" if grey else b"RGB ", gamma)
    more: dict[str, Any] = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True, "exact": True}}.get(kind, {})
    path.write_bytes(_saved(pixels, kind, icc_profile=profile, **more))
    with Image.open(path) as picture:
        stored = np.asarray(picture).astype(np.float64)
    found = np.asarray(PictureFiles().picture(path)).astype(np.float64)
    assert np.abs(found - srgb_levels((stored / 255) ** gamma)).max() < 2.5


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_a_profile_with_red_and_blue_exchanged_exchanges_them(tmp_path: Path, kind: str) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    more: dict[str, Any] = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    (tmp_path / "x").write_bytes(_saved(pixels, kind, icc_profile=matrix_profile(b"RGB ", 1.8, b"bgr"), **more))
    found = np.asarray(PictureFiles().picture(tmp_path / "x")).astype(np.float64)
    assert np.abs(found - srgb_levels((pixels[..., ::-1] / 255) ** 1.8)).max() < 2.5


@pytest.mark.parametrize("profile", [_profile("sRGB"), matrix_profile(b"GRAY", 1.0)], ids=["srgb", "of-grey"])
def test_srgb_and_profiles_of_other_colours_leave_every_value_alone(tmp_path: Path, profile: bytes) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    (tmp_path / "x").write_bytes(_saved(pixels, "PNG", icc_profile=profile))
    np.testing.assert_array_equal(np.asarray(PictureFiles().picture(tmp_path / "x")), pixels)


def test_a_profile_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(_saved(GREY, "PNG", icc_profile=b"no profile"))
    cut = b"\xff\xe2" + struct.pack(">H", 20) + b"ICC_PROFILE\0\1\2none"  # the first of two pieces
    jpeg = _saved(FLAT, "JPEG")
    (tmp_path / "y.png").write_bytes(jpeg[:2] + cut + jpeg[2:])
    (tmp_path / "z.png").write_bytes(png_bytes(GREY, (b"iCCP", b"x\0\0no zlib")))
    for name in "xyz":
        with pytest.raises(DataError, match=rf"{name}\.png has a colour profile that can't be read"):
            PictureFiles().picture(tmp_path / f"{name}.png")


GAMMA = {"as sRGB": 45455, "a little beside": 46000, "linear": 100000, "Mac of old": 55556, "none": 0}


@pytest.mark.parametrize("name", GAMMA)
def test_a_png_with_another_gamma_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(png_bytes(GREY, (b"gAMA", struct.pack(">I", GAMMA[name]))))
    if name in ("as sRGB", "a little beside"):
        np.testing.assert_array_equal(np.asarray(PictureFiles().picture(path)), GREY)
    else:
        with pytest.raises(DataError, match=r"x\.png has the gamma .*pngcrush"):
            PictureFiles().header(path)


def test_a_profile_and_the_word_srgb_go_before_gamma(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(png_bytes(GREY, (b"gAMA", struct.pack(">I", 100000)), (b"sRGB", b"\0")))
    np.testing.assert_array_equal(np.asarray(PictureFiles().picture(path)), GREY)


def test_other_primaries_and_video_codes_are_refused(tmp_path: Path) -> None:
    wide = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
    for chunk, word in (((b"cHRM", wide), "cHRM"), ((b"cICP", bytes([9, 16, 0, 1])), "cICP")):
        (tmp_path / "x.png").write_bytes(png_bytes(COLOUR, chunk))
        with pytest.raises(DataError, match=word):
            PictureFiles().picture(tmp_path / "x.png")
    (tmp_path / "y.png").write_bytes(png_bytes(COLOUR, (b"cICP", bytes([1, 13, 0, 1]))))
    np.testing.assert_array_equal(np.asarray(PictureFiles().picture(tmp_path / "y.png")), COLOUR)


@pytest.mark.parametrize("kind", ["MPO", "PNG", "WEBP", "TIFF"])
def test_several_frames_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    frames = [Image.fromarray(np.roll(COLOUR, n, axis=0)) for n in range(2)]
    path = tmp_path / "many"
    frames[0].save(path, kind, save_all=True, append_images=frames[1:])
    for read in (PictureFiles().header, PictureFiles().picture):
        with pytest.raises(DataError, match="many holds several frames"):
            read(path)


def test_the_cases_are_read_alike_in_a_set_and_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(CASES / "pgm16.pgm", tmp_path / name / "x.PGM")
    pixels = open_source(FolderSource(path=tmp_path, test_share=0.0)).train.pixels_NCHW[0, 0]
    np.testing.assert_array_equal(pixels, read_picture(CASES / "pgm16.pgm", (1, 64, 48), PictureFiles())[0])
    content = np.frombuffer((CASES / "pgm16.pgm").read_bytes()[-48 * 64 * 2 :], ">u2").reshape(64, 48)
    np.testing.assert_array_equal(pixels, content // 257)
    assert (pixels.min(), pixels.max()) == (10, 240)
