"""Encodings that archives send: what was encoded without loss is shown as the pixels were, and what can't be read is
named with the command that helps."""

import io
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mple.data import DataError

pydicom = pytest.importorskip("pydicom")
codecs = pytest.importorskip("imagecodecs")
pytest.importorskip("gdcm")
from pydicom.encaps import encapsulate, get_frame  # noqa: E402

from mple.data.dicom_files import codestreams  # noqa: E402
from mple.data.dicom_files.reader import DicomFiles  # noqa: E402
from tests.support.dicom_decodes import by_gdcm, encode_by_gdcm  # noqa: E402
from tests.support.dicom_files import by_window, read_dicom, write_compressed, write_dicom  # noqa: E402

SMOOTH = np.add.outer(np.arange(24), np.arange(40)) % 64
"""(H, W) of an odd shape, so that sides can't be mixed up."""
EIGHT = (SMOOTH * 4).astype(np.uint8)
TWELVE = (SMOOTH * 64 + 7).astype(np.uint16)
SIXTEEN = (SMOOTH * 1023 + 5).astype(np.uint16)
SIGNED = (SMOOTH * 60 - 1900).astype(np.int16)
COLOURS = np.stack([EIGHT, EIGHT[::-1], 255 - EIGHT], axis=-1)
BITS_12 = {"BitsStored": 12, "HighBit": 11}

JPEG_LOSSLESS, JPEG_LOSSLESS_1 = "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"
JPEG_LS, JPEG_LS_NEAR = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS, JPEG_2000 = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"
HTJ2K_LOSSLESS, HTJ2K_RPCL, HTJ2K = (f"1.2.840.10008.1.2.4.20{number}" for number in (1, 2, 3))
JPEG_XL_LOSSLESS, JPEG_XL = "1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.112"
RLE = "1.2.840.10008.1.2.5"

ENCODERS = {
    JPEG_LOSSLESS: lambda pixels, bits: codecs.ljpeg_encode(pixels, bitspersample=bits),
    JPEG_LOSSLESS_1: lambda pixels, bits: codecs.ljpeg_encode(pixels, bitspersample=bits),
    JPEG_LS: lambda pixels, bits: codecs.jpegls_encode(pixels),
    JPEG_LS_NEAR: lambda pixels, bits: codecs.jpegls_encode(pixels),
    JPEG_2000_LOSSLESS: lambda pixels, bits: codecs.jpeg2k_encode(pixels, reversible=True, codecformat="J2K"),
    JPEG_2000: lambda pixels, bits: codecs.jpeg2k_encode(pixels, reversible=True, codecformat="JP2"),
    HTJ2K_LOSSLESS: lambda pixels, bits: codecs.htj2k_encode(pixels),
    HTJ2K_RPCL: lambda pixels, bits: codecs.htj2k_encode(pixels),
    HTJ2K: lambda pixels, bits: codecs.htj2k_encode(pixels),
    JPEG_XL_LOSSLESS: lambda pixels, bits: codecs.jpegxl_encode(pixels, lossless=True),
    JPEG_XL: lambda pixels, bits: codecs.jpegxl_encode(pixels, lossless=True, usecontainer=True),
}


@pytest.mark.parametrize("syntax", ENCODERS)
@pytest.mark.parametrize(
    ("pixels", "bits", "tags"),
    [(EIGHT, 8, {}), (TWELVE, 12, BITS_12), (SIXTEEN, 16, {})],
    ids=["8 bits", "12 bits", "16 bits"],
)
def test_grey_values_come_back(
    tmp_path: Path, syntax: str, pixels: np.ndarray, bits: int, tags: dict[str, Any]
) -> None:
    path = write_compressed(tmp_path / "a", pixels, bytes(ENCODERS[syntax](pixels, bits)), syntax, **tags)
    np.testing.assert_array_equal(read_dicom(path, (900.0, 2000.0)), by_window(pixels, 900, 2000))
    header = DicomFiles((), 10**9).header(path)
    assert (header.width, header.height, header.is_grey) == (40, 24, True)


@pytest.mark.parametrize("syntax", [JPEG_LOSSLESS, JPEG_LOSSLESS_1, JPEG_LS, JPEG_2000_LOSSLESS, HTJ2K_LOSSLESS])
@pytest.mark.parametrize("tags", [{}, BITS_12], ids=["16 bits", "12 bits"])
def test_signs_come_back_where_a_codestream_has_none(tmp_path: Path, syntax: str, tags: dict[str, Any]) -> None:
    bits = tags.get("BitsStored", 16)
    unsigned = SIGNED.view(np.uint16) & ((1 << bits) - 1)
    path = write_compressed(tmp_path / "a", SIGNED, bytes(ENCODERS[syntax](unsigned, bits)), syntax, **tags)
    np.testing.assert_array_equal(read_dicom(path, (-100.0, 2000.0)), by_window(SIGNED, -100, 2000))


def test_signs_come_back_where_a_codestream_has_them(tmp_path: Path) -> None:
    frame = bytes(ENCODERS[JPEG_2000_LOSSLESS](SIGNED, 16))
    path = write_compressed(tmp_path / "a", SIGNED, frame, JPEG_2000_LOSSLESS, **BITS_12)
    np.testing.assert_array_equal(read_dicom(path, (-100.0, 2000.0)), by_window(SIGNED, -100, 2000))


@pytest.mark.parametrize("syntax", [JPEG_LS, JPEG_2000_LOSSLESS, HTJ2K_LOSSLESS, JPEG_XL_LOSSLESS])
def test_colours_come_back(tmp_path: Path, syntax: str) -> None:
    path = write_compressed(tmp_path / "a", COLOURS, bytes(ENCODERS[syntax](COLOURS, 8)), syntax)
    np.testing.assert_array_equal(read_dicom(path), COLOURS)


@pytest.mark.parametrize("photometric", ["RGB", "YBR_RCT"])
def test_colours_that_jpeg_2000_turned_come_back(tmp_path: Path, photometric: str) -> None:
    frame = codecs.jpeg2k_encode(COLOURS, reversible=True, codecformat="J2K", mct=photometric == "YBR_RCT")
    path = write_compressed(tmp_path / "a", COLOURS, bytes(frame), JPEG_2000_LOSSLESS, photometric=photometric)
    np.testing.assert_array_equal(read_dicom(path), COLOURS)


JFIF = bytes.fromhex("ffd8ffe000104a46494600010100000100010000")


@pytest.mark.parametrize("start", [b"", JFIF], ids=["plain", "JFIF"])
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_colours_of_lossless_jpeg_are_not_turned_twice(tmp_path: Path, photometric: str, start: bytes) -> None:
    grey_as_ybr = np.stack([EIGHT, np.full_like(EIGHT, 128), np.full_like(EIGHT, 128)], axis=-1)
    pixels = COLOURS if photometric == "RGB" else grey_as_ybr
    frame = bytes(codecs.jpeg8_encode(pixels, lossless=True, colorspace="RGB", outcolorspace="RGB"))
    frame = start + frame[2:] if start else frame
    path = write_compressed(tmp_path / "a", pixels, bytes(frame), JPEG_LOSSLESS_1, photometric=photometric)
    np.testing.assert_array_equal(by_gdcm(path), pixels)
    right = COLOURS if photometric == "RGB" else np.repeat(EIGHT[..., None], 3, axis=2)
    np.testing.assert_array_equal(read_dicom(path), right)


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "RGB", "YBR_FULL", "YBR_FULL_422"])
def test_a_jpeg_within_jpeg_xl(tmp_path: Path, photometric: str) -> None:
    pixels = EIGHT if photometric == "MONOCHROME2" else np.stack([EIGHT, EIGHT, EIGHT // 2], axis=-1)
    jpeg = io.BytesIO()
    Image.fromarray(pixels).save(jpeg, "JPEG", quality=95)
    frame = codecs.jpegxl_encode_jpeg(jpeg.getvalue())
    path = write_compressed(tmp_path / "a", pixels, frame, "1.2.840.10008.1.2.4.111", photometric=photometric)
    right = np.asarray(Image.open(jpeg))
    right = by_window(right, 128, 256) if photometric == "MONOCHROME2" else right
    assert np.abs(read_dicom(path, (128.0, 256.0)).astype(int) - right).max() <= 4


def test_colours_one_after_the_other_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_compressed(tmp_path / "a", COLOURS, bytes(ENCODERS[JPEG_LS](COLOURS, 8)), JPEG_LS)
    monkeypatch.setattr(codestreams, "decoder", lambda syntax: lambda frame: COLOURS.transpose(2, 0, 1))
    np.testing.assert_array_equal(read_dicom(path), COLOURS)


@pytest.mark.parametrize("syntax", [JPEG_LOSSLESS_1, JPEG_LS, JPEG_2000_LOSSLESS, RLE])
@pytest.mark.parametrize(
    ("pixels", "tags"),
    [(EIGHT, {}), (TWELVE, BITS_12), (SIXTEEN, {}), (SIGNED, {}), (COLOURS, {}), (COLOURS, {"PlanarConfiguration": 1})],
    ids=["8 bits", "12 bits", "16 bits", "signed", "colours", "planes"],
)
def test_what_gdcm_encodes_comes_back(tmp_path: Path, syntax: str, pixels: np.ndarray, tags: dict[str, Any]) -> None:
    if "PlanarConfiguration" in tags:
        tags = {**tags, "PixelData": pixels.transpose(2, 0, 1).tobytes()}
    write_dicom(tmp_path / "plain", pixels, "RGB" if pixels.ndim == 3 else "MONOCHROME2", **tags)
    encode_by_gdcm(tmp_path / "plain", tmp_path / "a", syntax)
    right = pixels if pixels.ndim == 3 else by_window(pixels, 900, 2000)
    np.testing.assert_array_equal(read_dicom(tmp_path / "a", (900.0, 2000.0)), right)


def test_12_bits_of_extended_jpeg(tmp_path: Path) -> None:
    frame = codecs.jpeg8_encode(TWELVE, level=95, bitspersample=12)
    path = write_compressed(tmp_path / "a", TWELVE, bytes(frame), "1.2.840.10008.1.2.4.51", **BITS_12)
    np.testing.assert_array_equal(read_dicom(path, (900.0, 2000.0)), by_window(by_gdcm(path), 900, 2000))
    assert np.abs(read_dicom(path, (2048.0, 4097.0)).astype(int) - by_window(TWELVE, 2048, 4097)).mean() < 1


@pytest.mark.parametrize("near", [1, 3])
def test_near_lossless_jpeg_ls(tmp_path: Path, near: int) -> None:
    frame = codecs.jpegls_encode(EIGHT, level=near)
    path = write_compressed(tmp_path / "a", EIGHT, bytes(frame), JPEG_LS_NEAR)
    assert np.abs(read_dicom(path, (128.0, 256.0)).astype(int) - by_window(EIGHT, 128, 256)).max() <= near


@pytest.mark.parametrize(
    ("pixels", "right", "tags"),
    [
        (EIGHT, by_window(EIGHT, 900, 2000), {}),
        (SIXTEEN, by_window(SIXTEEN, 900, 2000), {}),
        (SIGNED, by_window(SIGNED, 900, 2000), {}),
        (TWELVE << 4, by_window(TWELVE, 900, 2000), {"BitsStored": 12, "HighBit": 15}),
        (COLOURS, COLOURS, {}),
    ],
    ids=["8 bits", "16 bits", "signed", "12 bits on the left", "colours"],
)
def test_run_lengths(tmp_path: Path, pixels: np.ndarray, right: np.ndarray, tags: dict[str, Any]) -> None:
    path = write_dicom(tmp_path / "a", pixels, "RGB" if pixels.ndim == 3 else "MONOCHROME2", **tags)
    about = pydicom.dcmread(path)
    about.compress(RLE)
    about.save_as(path)
    np.testing.assert_array_equal(read_dicom(path, (900.0, 2000.0)), right)


@pytest.mark.parametrize("syntax", [JPEG_LOSSLESS_1, JPEG_2000_LOSSLESS])
def test_a_frame_in_several_fragments(tmp_path: Path, syntax: str) -> None:
    frame = bytes(ENCODERS[syntax](TWELVE, 12))
    data = encapsulate([frame], fragments_per_frame=3)
    path = write_dicom(tmp_path / "a", TWELVE, syntax=syntax, PixelData=data, **BITS_12)
    np.testing.assert_array_equal(read_dicom(path, (900.0, 2000.0)), by_window(TWELVE, 900, 2000))


@pytest.mark.parametrize("has_offsets", [True, False])
def test_a_second_frame_is_noticed(tmp_path: Path, has_offsets: bool) -> None:
    frame = bytes(ENCODERS[JPEG_LOSSLESS_1](TWELVE, 12))
    data = encapsulate([frame, frame], has_bot=has_offsets)
    path = write_dicom(tmp_path / "a", TWELVE, syntax=JPEG_LOSSLESS_1, PixelData=data, **BITS_12)
    with pytest.raises(DataError, match="more than one frame, which NumberOfFrames does not say"):
        read_dicom(path)
    plain = write_dicom(tmp_path / "b", TWELVE, PixelData=TWELVE.tobytes() * 2)
    with pytest.raises(DataError, match="more than one frame, which NumberOfFrames does not say"):
        read_dicom(plain)


def test_values_above_their_stated_bits_are_named(tmp_path: Path) -> None:
    frame = bytes(ENCODERS[JPEG_LOSSLESS_1](SIXTEEN, 16))
    path = write_compressed(tmp_path / "a", SIXTEEN, frame, JPEG_LOSSLESS_1, **BITS_12)
    with pytest.raises(DataError, match="compressed pixels have 16 bits, BitsStored says 12"):
        read_dicom(path)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("syntax", [*ENCODERS, "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", RLE])
def test_frames_that_are_cut_off_are_never_filled_up(tmp_path: Path, syntax: str, share: float) -> None:
    noise = np.random.default_rng(1).integers(0, 4096, (24, 40)).astype(np.uint16)
    pixels, tags = ((noise >> 4).astype(np.uint8), {}) if syntax.endswith(".50") else (noise, BITS_12)
    if syntax == RLE:
        encode_by_gdcm(write_dicom(tmp_path / "plain", pixels, **tags), tmp_path / "a", syntax)
        frame = get_frame(pydicom.dcmread(tmp_path / "a").PixelData, 0, number_of_frames=1)
    else:
        encode = ENCODERS.get(syntax, lambda one, bits: codecs.jpeg8_encode(one, bitspersample=bits))
        frame = bytes(encode(pixels, 12 if tags else 8))
    shown = read_dicom(write_compressed(tmp_path / "b", pixels, frame, syntax, **tags))
    assert np.ptp(shown) > 200
    path = write_compressed(tmp_path / "c", pixels, frame[: int(len(frame) * share)], syntax, **tags)
    with pytest.raises(DataError, match=r"c can't be read"):
        read_dicom(path)


@pytest.mark.parametrize("syntax", ENCODERS)
def test_damaged_codestreams_are_named(tmp_path: Path, syntax: str) -> None:
    frame = bytes(ENCODERS[syntax](TWELVE, 12))
    for name, damaged in {"empty": b"\0\0", "zeros": bytes(len(frame) // 2 * 2), "other": b"\x89PNG" * 9}.items():
        path = write_compressed(tmp_path / name, TWELVE, damaged, syntax, **BITS_12)
        with pytest.raises(DataError, match=rf"{name} can't be read: .*compressed pixels do not begin as"):
            read_dicom(path)


@pytest.mark.parametrize("syntax", ENCODERS)
def test_a_codestream_of_another_size_is_named_before_it_is_decoded(tmp_path: Path, syntax: str) -> None:
    frame = bytes(ENCODERS[syntax](TWELVE, 12))
    path = write_compressed(tmp_path / "a", TWELVE, frame, syntax, Rows=25, Columns=41, **BITS_12)
    with pytest.raises(DataError, match="compressed pixels are 40x24, the file says 41x25"):
        read_dicom(path)


@pytest.mark.parametrize("size", [(65000, 65000), (25, 41), (1, 1)])
def test_an_8_bit_jpeg_of_another_size_is_named_before_it_is_decoded(tmp_path: Path, size: tuple[int, int]) -> None:
    frame = bytearray(codecs.jpeg8_encode(EIGHT))
    place = frame.index(b"\xff\xc0") + 5
    frame[place : place + 4] = struct.pack(">HH", *size)
    path = write_compressed(tmp_path / "a", EIGHT, bytes(frame), "1.2.840.10008.1.2.4.50")
    with pytest.raises(DataError, match=f"compressed pixels are {size[1]}x{size[0]}, the file says 40x24"):
        read_dicom(path)


@pytest.mark.parametrize("syntax", [JPEG_LS, JPEG_2000_LOSSLESS, HTJ2K_LOSSLESS])
def test_a_codestream_of_other_samples_is_named(tmp_path: Path, syntax: str) -> None:
    path = write_compressed(tmp_path / "a", EIGHT, bytes(ENCODERS[syntax](COLOURS, 8)), syntax)
    with pytest.raises(DataError, match="compressed pixels have 3 values each, the file says 1"):
        read_dicom(path)


def test_12_bits_of_extended_jpeg_in_colour_are_named(tmp_path: Path) -> None:
    wide = COLOURS.astype(np.uint16)
    path = write_compressed(tmp_path / "a", wide, b"frame!", "1.2.840.10008.1.2.4.51", **BITS_12)
    with pytest.raises(DataError, match="12-bit JPEG in colour"):
        DicomFiles((), 10**9).header(path)


@pytest.mark.parametrize("size", [(8, 8), (256, 256), (24, 40), (30, 40), (200, 300), (600, 513)])
def test_sizes_of_jpeg_xl(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = np.resize(EIGHT, size)
    path = write_compressed(tmp_path / "a", pixels, ENCODERS[JPEG_XL_LOSSLESS](pixels, 8), JPEG_XL_LOSSLESS)
    np.testing.assert_array_equal(read_dicom(path, (128.0, 256.0)), by_window(pixels, 128, 256))


# --- what can't be read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        ("1.2.840.10008.1.2.4.100", "MPEG2 Main Profile"),
        ("1.2.840.10008.1.2.4.53", "JPEG Spectral Selection"),
        ("1.2.840.10008.1.2.4.94", "JPIP"),
        ("1.2.3.4.5", "1.2.3.4.5"),
    ],
)
def test_other_encodings_are_named_with_a_command(tmp_path: Path, syntax: str, name: str) -> None:
    path = write_compressed(tmp_path / "a", EIGHT, b"frame!", syntax)
    with pytest.raises(DataError, match=f"its transfer syntax .*{name}.* is not read; convert it: gdcmconv --raw"):
        DicomFiles((), 10**9).header(path)


@pytest.mark.parametrize("syntax", ENCODERS)
def test_a_missing_package_is_named_by_the_header(tmp_path: Path, syntax: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_compressed(tmp_path / "a", EIGHT, bytes(ENCODERS[syntax](EIGHT, 8)), syntax)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(DataError, match=r"needs imagecodecs.*pip install 'mple\[dicom\]'"):
        DicomFiles((), 10**9).header(path)


def test_high_bits_that_a_codestream_has_not_are_named(tmp_path: Path) -> None:
    frame = bytes(ENCODERS[JPEG_LS](TWELVE, 12))
    path = write_compressed(tmp_path / "a", TWELVE, frame, JPEG_LS, BitsStored=12, HighBit=15)
    with pytest.raises(DataError, match="HighBit 15 with BitsStored 12 is not read in JPEG-LS"):
        DicomFiles((), 10**9).header(path)
