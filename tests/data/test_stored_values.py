"""Values as files store them: bits, byte orders, signs, palettes, transparency; right values are written by hand."""

import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mple.data import DataError
from mple.data.picture_files import PictureFiles
from tests.support.picture_bytes import png_bytes, tiff_bytes

CASES = Path(__file__).parent / "cases"
DEEP = np.array([[0, 128, 129], [257, 4095, 65535]], np.uint16)
DEEP_RIGHT = np.array([[0, 0, 1], [1, 16, 255]])
"""255 · v / 65535, rounded: 128 / 257 is below a half, 129 / 257 above."""
BYTES = np.array([[0, 10, 255], [1, 128, 254]], np.uint8)
COLOURS = np.arange(18, dtype=np.uint16).reshape(2, 3, 3) * 3855
"""Multiples of 15 · 257."""


def _read(folder: Path, content: bytes, white: float | None = None) -> np.ndarray:
    path = folder / "x"
    path.write_bytes(content)
    header, picture = PictureFiles(white).header(path), PictureFiles(white).picture(path)
    assert (header.width, header.height) == picture.size
    assert header.is_grey == (picture.mode == "L")
    return np.asarray(picture)


def _refusal(folder: Path, content: bytes, white: float | None = None) -> str:
    (folder / "x").write_bytes(content)
    with pytest.raises(DataError) as caught:
        PictureFiles(white).picture(folder / "x")
    assert str(folder / "x") in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize(("stored", "right"), [(BYTES, BYTES), (DEEP, DEEP_RIGHT)], ids=["8", "16"])
def test_tiff_whose_zero_is_white_is_inverted(
    tmp_path: Path, stored: np.ndarray, right: np.ndarray, white_is_zero: bool, order: str, packed: bool
) -> None:
    found = _read(tmp_path, tiff_bytes(stored, 0 if white_is_zero else 1, order, packed=packed))
    np.testing.assert_array_equal(found, 255 - right if white_is_zero else right)


@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize(("bits", "rows"), [(1, b"\xa0\x40"), (4, b"\xf0\xf0\x0f\x00")])
def test_tiff_of_few_bits(tmp_path: Path, bits: int, rows: bytes, photometric: int) -> None:
    # Three pixels a row: on off on, off on off.
    right = np.array([[255, 0, 255], [0, 255, 0]])
    found = _read(tmp_path, tiff_bytes(BYTES, photometric, t258=[bits], strips=[rows]))
    np.testing.assert_array_equal(found, right if photometric else 255 - right)


def test_tiff_of_twelve_packed_bits_has_its_own_white(tmp_path: Path) -> None:
    # 4095, 0x123 = 291; 2048, 1: two pixels in three bytes.
    rows = bytes([0xFF, 0xF1, 0x23, 0x80, 0x00, 0x01])
    found = _read(tmp_path, tiff_bytes(np.zeros((2, 2), np.uint8), 1, t258=[12], strips=[rows]))
    np.testing.assert_array_equal(found, [[255, 18], [128, 0]])  # 291 · 255 / 4095 = 18.1, 2048: 127.5


def test_tiff_that_does_not_say_what_zero_is_is_refused(tmp_path: Path) -> None:
    assert "whether 0 is black or white" in _refusal(tmp_path, tiff_bytes(BYTES, None))


def test_a_stack_of_imagej_is_refused(tmp_path: Path) -> None:
    for count, refused in ((10, True), (1, False)):
        content = tiff_bytes(BYTES, 1, t270=b"ImageJ=1.53k\nimages=%d\nslices=%d\n\0" % (count, count))
        if refused:
            assert "holds 10 frames by ImageJ's description" in _refusal(tmp_path, content)
        else:
            np.testing.assert_array_equal(_read(tmp_path, content), BYTES)


def test_tiff_of_signed_bytes_is_refused(tmp_path: Path) -> None:
    assert "signed bytes" in _refusal(tmp_path, tiff_bytes(BYTES.astype(np.int8), 1))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("order", "<>")
def test_numbers_without_a_white_of_their_own_need_one(tmp_path: Path, order: str, packed: bool) -> None:
    whole = np.array([[0, 250, 1000]])
    for stored in (np.array([[0, 0.25, 1]], np.float32), whole.astype(np.int16), whole.astype(np.int32)):
        content = tiff_bytes(stored, 1, order, packed=packed)
        assert "set white in [data]" in _refusal(tmp_path, content)
        np.testing.assert_array_equal(_read(tmp_path, content, float(stored.max())), [[0, 64, 255]])
    inverted = tiff_bytes(np.array([[0, 0.25, 1]], np.float32), 0, order, packed=packed)
    np.testing.assert_array_equal(_read(tmp_path, inverted, 1.0), [[255, 191, 0]])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), -0.01, 1.01])
def test_values_that_are_no_light_are_refused_and_never_clipped(tmp_path: Path, value: float) -> None:
    text = _refusal(tmp_path, tiff_bytes(np.array([[0, value, 1]], np.float32), 1), 1.0)
    assert f"holds the value {value:g}" in text
    assert "white" in text


def test_white_of_twelve_bits(tmp_path: Path) -> None:
    stored = np.array([[0, 8, 2048, 4095]], np.uint16)
    right = [[0, 0, 128, 255]]  # 8 · 255 / 4095 = 0.498, 2048: 127.53
    for content in (png_bytes(stored), tiff_bytes(stored, 1, "<"), tiff_bytes(stored, 1, ">")):
        np.testing.assert_array_equal(_read(tmp_path, content, 4095), right)
        np.testing.assert_array_equal(_read(tmp_path, content), [[0, 0, 8, 16]])
    np.testing.assert_array_equal(_read(tmp_path, tiff_bytes(stored, 0), 4095), [[255, 255, 127, 0]])
    assert "holds the value 4095, above its white level 4000" in _refusal(tmp_path, png_bytes(stored), 4000)


def test_the_png_of_twelve_bits() -> None:
    path = CASES / "png_12bit_in_16.png"
    with Image.open(path) as picture:
        stored = np.asarray(picture).astype(np.float64)
    np.testing.assert_array_equal(np.asarray(PictureFiles(4095).picture(path)), np.round(stored * 255 / 4095))
    assert np.asarray(PictureFiles().picture(path)).max() == 15


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("packed", [False, True])
def test_colour_of_sixteen_bits_is_rounded_and_scaled_by_white(tmp_path: Path, order: str, packed: bool) -> None:
    for content in (png_bytes(COLOURS), tiff_bytes(COLOURS, 2, order, packed=packed)):
        np.testing.assert_array_equal(_read(tmp_path, content), COLOURS // 257)
    twelve = COLOURS // 16
    for content in (png_bytes(twelve), tiff_bytes(twelve, 2, order, packed=packed)):
        np.testing.assert_array_equal(_read(tmp_path, content, 4095), np.floor(twelve / 4095 * 255 + 0.5))
        assert "above its white level 3000" in _refusal(tmp_path, content, 3000)


def test_colour_of_sixteen_bits_in_planes_is_refused(tmp_path: Path) -> None:
    planes = [COLOURS[..., band].astype("<u2").tobytes() for band in range(3)]
    for packed in (False, True):
        assert "planes" in _refusal(tmp_path, tiff_bytes(COLOURS, 2, packed=packed, t284=[2], strips=planes))


def test_colour_of_eight_bits_in_planes(tmp_path: Path) -> None:
    small = (COLOURS // 257).astype(np.uint8)
    planes = [small[..., band].tobytes() for band in range(3)]
    np.testing.assert_array_equal(_read(tmp_path, tiff_bytes(small, 2, t284=[2], strips=planes)), small)


def test_white_beyond_what_a_file_can_hold_is_refused(tmp_path: Path) -> None:
    for content in (png_bytes(BYTES), tiff_bytes(BYTES, 1), b"P5 3 2 255\n" + BYTES.tobytes()):
        text = _refusal(tmp_path, content, 4095)
        assert "holds values up to 255, so that white = 4095 can't be meant" in text
        with pytest.raises(DataError, match="can't be meant"):
            PictureFiles(4095).header(tmp_path / "x")


def test_white_of_eight_bits(tmp_path: Path) -> None:
    small = np.array([[0, 1, 15]], np.uint8)
    np.testing.assert_array_equal(_read(tmp_path, png_bytes(small), 15), [[0, 17, 255]])
    np.testing.assert_array_equal(_read(tmp_path, tiff_bytes(small, 0), 15), [[255, 238, 0]])


PNM = {
    "P5 16": (b"P5\n3 1\n65535\n\0\0\x80\x80\xff\xff", [[0, 128, 255]]),
    "P5 12": (b"P5 # made by hand\n3 1 4095\n\0\0\x08\0\x0f\xff", [[0, 128, 255]]),
    "P5 8": (b"P5 3 1 255\n\x00\x80\xff", [[0, 128, 255]]),
    "P5 4": (b"P5 3 1 15\n\x00\x08\x0f", [[0, 136, 255]]),
    "P5 10": (b"P5 3 1 1023\n\0\0\x02\0\x03\xff\n", [[0, 128, 255]]),
    "P2 16": (b"P2 3 1 65535 0 32896 65535", [[0, 128, 255]]),
    "P2 12": (b"P2\n3 1\n4095\n0 # black\n2048 4095\n", [[0, 128, 255]]),
    "P6 12": (b"P6 1 1 4095\n\0\0\x08\0\x0f\xff", [[[0, 128, 255]]]),
    "P6 16": (b"P6 1 1 65535\n\0\0\x80\x80\xff\xff", [[[0, 128, 255]]]),
    "P6 8": (b"P6 1 1 255\n\x00\x80\xff", [[[0, 128, 255]]]),
    "P3 12": (b"P3 1 1 4095\n0 2048 4095\n", [[[0, 128, 255]]]),
    "P3 8": (b"P3 1 1 255 0 128 255", [[[0, 128, 255]]]),
    "P4": (b"P4 3 1\n\x40", [[255, 0, 255]]),
    "P4 wide": (b"P4 9 2\n\x40\x80\x00\x00", [[255, 0, *[255] * 6, 0], [255] * 9]),
    "P1": (b"P1 3 1\n0 1 0\n", [[255, 0, 255]]),
    "P1 close": (b"P1 3 2 # rows\n010\n101", [[255, 0, 255], [0, 255, 0]]),
}


@pytest.mark.parametrize("name", PNM)
def test_pnm_is_read_by_its_own_maximum(tmp_path: Path, name: str) -> None:
    content, right = PNM[name]
    np.testing.assert_array_equal(_read(tmp_path, content), right)


def test_white_counts_in_the_values_that_a_pgm_stores(tmp_path: Path) -> None:
    content = b"P5 3 1 65535\n\0\0\x08\0\x0f\xff"
    np.testing.assert_array_equal(_read(tmp_path, content, 4095), [[0, 128, 255]])
    np.testing.assert_array_equal(_read(tmp_path, PNM["P2 12"][0], 4095), [[0, 128, 255]])
    assert "up to 4095, so that white = 5000" in _refusal(tmp_path, PNM["P2 12"][0], 5000)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"P5 2 1 4095\n\0\0\xff\xff", "holds the value 65535, above its white level 4095"),
        (b"P2 2 1 100 5 101", "holds the value 101, above its white level 100"),
        (b"P2 2 1 100 5 -1", "holds the value -1"),
        (b"P2 2 1 100 5", "ends after 1 of 2 values"),
        (b"P5 2 1 4095\n\0\0\x0f", "ends after 1 of 2 values"),
        (b"P2 2 1 100 5 x", "can't be read"),
        (b"P2 2 1 100 5 6 7", "goes on after its picture"),
        (b"P5 2 1 255\n\1\2P5 2 1 255\n\1\2", "goes on after its picture"),
        (b"P5 2 1 255\n\1\2" + bytes(100_000), "goes on after its picture"),
        (b"P4 2 1\n\x80P4 2 1\n\x80", "goes on after its picture"),
        (b"P4 9 2\n\x80\x80\x80", "ends after 9 of 18 values"),
        (b"P1 2 1\n02", "holds the digit 2"),
        (b"P1 2 1\n011", "goes on after its picture"),
        (b"P5 2 1 99999\n\1\2", "can't be read"),
    ],
)
def test_pnm_that_is_not_what_it_says_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    assert words in _refusal(tmp_path, content)


def test_pgm_in_two_sizes_of_file_gives_the_same(tmp_path: Path) -> None:
    shutil.copy(CASES / "pgm16.pgm", tmp_path / "x.pgm")
    stored = np.frombuffer((tmp_path / "x.pgm").read_bytes()[-6144:], ">u2").reshape(64, 48)
    np.testing.assert_array_equal(np.asarray(PictureFiles().picture(tmp_path / "x.pgm")), stored // 257)
    np.testing.assert_array_equal(_read(tmp_path, png_bytes(stored.astype(np.uint16))), stored // 257)


PALETTE = bytes([10, 20, 30, 200, 100, 50, 7, 7, 7])
NUMBERS = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
THROUGH = np.frombuffer(PALETTE, np.uint8).reshape(3, 3)[NUMBERS]


def _tiff_colours(scale: int, colours: int = 256) -> list[int]:
    table = np.zeros((colours, 3), np.int64)
    table[:3] = np.frombuffer(PALETTE, np.uint8).reshape(3, 3)
    return [int(value) for value in (table * scale).T.ravel()]


def test_palettes(tmp_path: Path) -> None:
    png = png_bytes(NUMBERS, (b"PLTE", PALETTE), colour_type=3)
    np.testing.assert_array_equal(_read(tmp_path, png), THROUGH)
    for order in "<>":
        for scale in (256, 257):  # both are met
            tiff = tiff_bytes(NUMBERS, 3, order, t320=_tiff_colours(scale))
            np.testing.assert_array_equal(_read(tmp_path, tiff), THROUGH)
    four = tiff_bytes(NUMBERS, 3, t258=[4], t320=_tiff_colours(257, 16), strips=[b"\x01\x20\x21\x00"])
    np.testing.assert_array_equal(_read(tmp_path, four), THROUGH)


def test_palettes_that_would_turn_black_are_refused(tmp_path: Path) -> None:
    assert "palette that ends at 255" in _refusal(tmp_path, tiff_bytes(NUMBERS, 3, t320=_tiff_colours(1)))
    png = png_bytes(NUMBERS + np.uint8(1), (b"PLTE", PALETTE), colour_type=3)
    assert "colour number 3, its palette only 3 colours" in _refusal(tmp_path, png)


def test_a_bitmap_that_pillow_reads_as_black_is_refused(tmp_path: Path) -> None:
    # Eight bits a pixel, but a palette of black and white only: numbers 0, 1, 1, 0.
    head = struct.pack("<IiiHHIIiiII", 40, 4, 1, 1, 8, 0, 4, 2835, 2835, 2, 0)
    bitmap = b"BM" + struct.pack("<IHHI", 66, 0, 0, 62) + head + bytes([0, 0, 0, 0, 255, 255, 255, 0, 0, 1, 1, 0])
    assert "bitmap whose grey palette is smaller" in _refusal(tmp_path, bitmap)


def test_a_bitmap_with_a_profile_is_refused(tmp_path: Path) -> None:
    head = struct.pack("<IiiHHIIiiII", 124, 1, 1, 1, 24, 0, 4, 2835, 2835, 0, 0) + bytes(16)
    for space, refused in ((b"DEBM", True), (b"BGRs", False)):
        header = (head + space).ljust(124, b"\0")
        bitmap = b"BM" + struct.pack("<IHHI", 142, 0, 0, 138) + header + bytes([30, 20, 10, 0])
        if refused:
            assert "bitmap with a colour profile" in _refusal(tmp_path, bitmap)
        else:
            np.testing.assert_array_equal(_read(tmp_path, bitmap), [[[10, 20, 30]]])


def test_bitmaps_of_16_bits_a_pixel(tmp_path: Path) -> None:
    # Red, green and blue of 5 bits each, then of 5, 6 and 5.
    white_red_green_blue = (0x7FFF, 0x7C00, 0x03E0, 0x001F), (0xFFFF, 0xF800, 0x07E0, 0x001F)
    right = [[[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]]
    for values, masks in zip(white_red_green_blue, ((0x7C00, 0x3E0, 0x1F), (0xF800, 0x7E0, 0x1F)), strict=True):
        head = struct.pack("<IiiHHIIiiII", 40, 4, 1, 1, 16, 3, 8, 2835, 2835, 0, 0) + struct.pack("<3I", *masks)
        bitmap = b"BM" + struct.pack("<IHHI", 74, 0, 0, 66) + head + struct.pack("<4H", *values)
        np.testing.assert_array_equal(_read(tmp_path, bitmap), right)


def test_bitmaps(tmp_path: Path) -> None:
    for pixels in (BYTES, np.stack([BYTES] * 3, axis=-1), BYTES > 100):
        Image.fromarray(pixels).save(tmp_path / "x.bmp")
        right = pixels if pixels.dtype == np.uint8 else pixels * np.uint8(255)
        np.testing.assert_array_equal(np.asarray(PictureFiles().picture(tmp_path / "x.bmp")), right)


def _with_alpha(pixels: np.ndarray, alpha: int) -> np.ndarray:
    colours = pixels if pixels.ndim == 3 else pixels[..., None]
    return np.concatenate([colours, np.full((*pixels.shape[:2], 1), alpha, pixels.dtype)], axis=-1)


@pytest.mark.parametrize("pixels", [BYTES, DEEP, np.stack([BYTES] * 3, axis=-1), COLOURS], ids=str)
def test_alpha_is_dropped_where_all_is_opaque_and_refused_elsewhere(tmp_path: Path, pixels: np.ndarray) -> None:
    full = int(np.iinfo(pixels.dtype).max)
    wide = pixels.dtype == np.uint16
    right = np.round(pixels / 257) if wide else pixels
    np.testing.assert_array_equal(_read(tmp_path, png_bytes(_with_alpha(pixels, full))), right)
    seen = _with_alpha(pixels, full)
    seen[0, 1, -1] = 254
    assert "is transparent in 1 pixels; lay it on" in _refusal(tmp_path, png_bytes(seen))
    if pixels.ndim == 3:
        np.testing.assert_array_equal(_read(tmp_path, tiff_bytes(_with_alpha(pixels, full), 2, t338=[2])), right)
        assert "is transparent" in _refusal(tmp_path, tiff_bytes(seen, 2, t338=[2]))


def test_sixteen_bits_with_alpha_keep_their_white(tmp_path: Path) -> None:
    grey = _with_alpha(np.array([[0, 2048, 4095]], np.uint16), 65535)
    np.testing.assert_array_equal(_read(tmp_path, png_bytes(grey), 4095), [[0, 128, 255]])


def _trns(*values: int) -> tuple[bytes, bytes]:
    return b"tRNS", struct.pack(f">{len(values)}H", *values)


@pytest.mark.parametrize(
    ("pixels", "seen", "unseen"),
    [
        (BYTES, _trns(128), _trns(77)),
        (DEEP, _trns(4095), _trns(4096)),
        (np.stack([BYTES] * 3, axis=-1), _trns(10, 10, 10), _trns(10, 10, 11)),
        (COLOURS, _trns(3855 * 3, 3855 * 4, 3855 * 5), _trns(3855 * 3, 3855 * 4, 3855 * 5 + 1)),
    ],
    ids=["8", "16", "colour", "wide-colour"],
)
def test_one_transparent_colour_is_refused_where_it_occurs(
    tmp_path: Path, pixels: np.ndarray, seen: Any, unseen: Any
) -> None:
    right = np.round(pixels / 257) if pixels.dtype == np.uint16 else pixels
    np.testing.assert_array_equal(_read(tmp_path, png_bytes(pixels, unseen)), right)
    assert "is transparent in 1 pixels" in _refusal(tmp_path, png_bytes(pixels, seen))


def test_transparent_colours_of_a_palette(tmp_path: Path) -> None:
    head = (b"PLTE", PALETTE)
    for alphas, pixels in ((b"\xff\x00", 2), (b"\x00\xff\xff", 2), (b"\xff\x80\x10", 4)):
        content = png_bytes(NUMBERS, head, (b"tRNS", alphas), colour_type=3)
        assert f"is transparent in {pixels} pixels" in _refusal(tmp_path, content)
    ones = np.ones((2, 2), np.uint8)
    np.testing.assert_array_equal(
        _read(tmp_path, png_bytes(ones, head, (b"tRNS", b"\x00\xff"), colour_type=3)),
        THROUGH[0, 1] * np.ones((2, 2, 1)),
    )


def test_ink_colours_are_refused(tmp_path: Path) -> None:
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "ink.jpg")
    inks = [(tmp_path / "ink.jpg").read_bytes(), tiff_bytes(np.zeros((2, 2, 4), np.uint8), 5)]
    at = inks[0].find(b"\xff\xee")  # without Adobe's marker, which tells an inverted one
    inks.append(
        inks[0] if at < 0 else inks[0][:at] + inks[0][at + 2 + struct.unpack(">H", inks[0][at + 2 : at + 4])[0] :]
    )
    for content in inks:
        assert "is in CMYK" in _refusal(tmp_path, content)
        with pytest.raises(DataError, match="colorspace sRGB"):
            PictureFiles().header(tmp_path / "x")


@pytest.mark.parametrize("photometric", [6, 8])
def test_other_colour_spaces_of_tiff_are_refused(tmp_path: Path, photometric: int) -> None:
    small = (COLOURS // 257).astype(np.uint8)
    for packed in (False, True) if photometric == 8 else (False,):
        assert "save it as grey or RGB" in _refusal(tmp_path, tiff_bytes(small, photometric, packed=packed))
