"""Padding, bits and floats of DICOM files; right values by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mple.data import DataError

pydicom = pytest.importorskip("pydicom")
from mple.data.dicom_files import display  # noqa: E402
from mple.data.dicom_files.reader import DicomFiles  # noqa: E402
from tests.support.dicom_files import by_window, read_dicom, write_dicom  # noqa: E402

HU = np.array([[-1000, 0], [40, 300]], np.int16)
STORED = (HU + 1024).astype(np.uint16)


def _pad(value: int, vr: str, name: str = "Value") -> dict[str, Any]:
    tag = {"Value": 0x00280120, "RangeLimit": 0x00280121}[name]
    return {f"PixelPadding{name}": pydicom.DataElement(tag, vr, value)}


PADDED = np.array([[-2000, 0], [40, 300]], np.int16)
OWN_RANGE = [[0, 0], [34, 255]]


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize(
    ("stored", "tags"),
    [
        (PADDED, _pad(-2000, "SS")),
        (PADDED, _pad(63536, "US")),  # the same bits
        (PADDED, {**_pad(-2000, "SS"), **_pad(-1500, "SS", "RangeLimit")}),
        (PADDED, {**_pad(-1500, "SS"), **_pad(-2048, "SS", "RangeLimit")}),
        (PADDED, {**_pad(63536, "US"), **_pad(64036, "US", "RangeLimit")}),
        (np.array([[65535, 0], [40, 300]], np.uint16), _pad(65535, "US")),
        (np.array([[65535, 0], [40, 300]], np.uint16), _pad(-1, "SS")),
        (np.array([[65000, 0], [40, 300]], np.uint16), {**_pad(65535, "US"), **_pad(60000, "US", "RangeLimit")}),
        (PADDED & 0xFFF, {**_pad(-2000, "SS"), "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 1}),
        (PADDED & 0xFFF, {**_pad(2096, "US"), "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 1}),
        # padding in the bits that values do not use
        (np.array([[0x8000, 0], [40, 300]], np.uint16), {**_pad(0x8000, "US"), "BitsStored": 12, "HighBit": 11}),
    ],
)
def test_padding_is_background(tmp_path: Path, stored: np.ndarray, tags: dict[str, Any], photometric: str) -> None:
    path = write_dicom(tmp_path / "a", stored)
    about = pydicom.dcmread(path)
    about.PhotometricInterpretation = photometric
    for name, value in tags.items():
        about.add(value) if isinstance(value, pydicom.DataElement) else setattr(about, name, value)
    about.save_as(path)
    shown = OWN_RANGE if photometric == "MONOCHROME2" else [[0, 255], [221, 0]]
    assert read_dicom(path).tolist() == shown
    windowed = by_window([[0, 0], [40, 300]], 100, 400)
    windowed = windowed if photometric == "MONOCHROME2" else 255 - windowed
    windowed[0, 0] = 0
    np.testing.assert_allclose(read_dicom(path, (100, 400)).astype(int), windowed, atol=1)


@pytest.mark.parametrize("value", [None, 77])
def test_padding_that_is_empty_or_does_not_occur_changes_nothing(tmp_path: Path, value: int | None) -> None:
    plain = read_dicom(write_dicom(tmp_path / "a", HU))
    np.testing.assert_array_equal(read_dicom(write_dicom(tmp_path / "b", HU, PixelPaddingValue=value)), plain)


def test_nothing_but_padding_is_black(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a", np.full((4, 4), -2000, np.int16), "MONOCHROME1", PixelPaddingValue=-2000)
    assert not read_dicom(path).any()


@pytest.mark.parametrize(("stored_bits", "high"), [(12, 15), (12, 13), (12, 11), (10, 12), (16, 15), (12, 12)])
@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"])
def test_values_lie_below_the_high_bit(
    tmp_path: Path, stored_bits: int, high: int, dtype: type[np.generic], syntax: str
) -> None:
    values = np.array([[-100, 0], [40, 300]] if dtype is np.int16 else [[7, 0], [40, 300]])
    shift = high + 1 - stored_bits
    unused = 0xFFFF & ~(((1 << stored_bits) - 1) << shift)  # set, to be no part of a value
    cells = (((values & ((1 << stored_bits) - 1)) << shift) | unused).astype(np.uint16).view(dtype)
    path = write_dicom(tmp_path / "a", cells, syntax=syntax, BitsStored=stored_bits, HighBit=high)
    assert read_dicom(path, (100, 400)).tolist() == by_window(values, 100, 400).tolist()


@pytest.mark.parametrize(
    ("tags", "text"),
    [
        ({"HighBit": 9, "BitsStored": 12}, "BitsStored 12 with HighBit 9 does not fit BitsAllocated 16"),
        ({"HighBit": 16, "BitsStored": 12}, "HighBit 16"),
        ({"BitsStored": 0}, "BitsStored 0"),
        ({"BitsStored": 17, "HighBit": 16}, "BitsStored 17"),
        ({"BitsAllocated": 12}, "BitsAllocated is 12"),
        ({"BitsAllocated": 64, "BitsStored": 64, "HighBit": 63}, "BitsAllocated is 64"),
    ],
)
def test_bits_that_do_not_fit_are_named(tmp_path: Path, tags: dict[str, Any], text: str) -> None:
    with pytest.raises(DataError, match=text):
        DicomFiles((), 10**9).header(write_dicom(tmp_path / "a", STORED, **tags))


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.float32, np.float64])
def test_wide_values_are_shown(tmp_path: Path, dtype: type[np.generic]) -> None:
    values = np.array([[0, 0], [4, 30]], np.float64) * 1e8
    values[0, 0] = 0 if dtype is np.uint32 else -2e9
    values[1, 1] = 2.1e9
    path = write_dicom(tmp_path / "a", values.astype(dtype))
    low = values.min()
    assert read_dicom(path).tolist() == np.rint((values - low) / (2.1e9 - low) * 255).tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("values", "tags", "shown"),
    [
        ([[np.nan, 0], [40, 300]], {}, [[0, 0], [34, 255]]),
        ([[-np.inf, 0], [40, 300]], {}, [[0, 0], [34, 255]]),
        ([[np.inf, 0], [40, 300]], {}, [[255, 0], [34, 255]]),
        ([[np.nan, 0], [40, 300]], {"photometric": "MONOCHROME1"}, [[0, 255], [221, 0]]),
        ([[np.nan, np.nan], [np.nan, np.nan]], {}, [[0, 0], [0, 0]]),
        ([[np.nan, np.inf], [np.nan, -np.inf]], {}, [[0, 0], [0, 0]]),
        ([[0, 1e-30], [2e-30, 4e-30]], {}, [[0, 64], [128, 255]]),
        ([[-3e38, 0], [0, 3e38]], {}, [[0, 128], [128, 255]]),
        ([[1e20, 2e20], [1e20, 3e20]], {}, [[0, 128], [0, 255]]),
        ([[np.nan, 0], [40, 300]], {"RescaleSlope": 2, "RescaleIntercept": 5}, [[0, 0], [34, 255]]),
    ],
)
def test_floats_that_are_no_numbers_take_no_part(
    tmp_path: Path, dtype: type[np.generic], values: list[list[float]], tags: dict[str, Any], shown: list[list[int]]
) -> None:
    path = write_dicom(tmp_path / "a", np.array(values, dtype), tags.pop("photometric", "MONOCHROME2"), **tags)
    tags["photometric"] = "MONOCHROME1" if shown[1] == [221, 0] else "MONOCHROME2"
    assert read_dicom(path).tolist() == shown


def test_the_ends_of_double_floats_do_not_overflow(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a", np.array([[-1.7e308, 0, 1.7e308]]))
    assert read_dicom(path).tolist() == [[0, 128, 255]]


@pytest.mark.parametrize(("value", "limit"), [(-7.5, None), (-7.5, -100.0), (-100.0, -5.0)])
@pytest.mark.parametrize(("dtype", "prefix"), [(np.float32, "Float"), (np.float64, "DoubleFloat")])
def test_padding_of_floats(
    tmp_path: Path, dtype: type[np.generic], prefix: str, value: float, limit: float | None
) -> None:
    tags = {f"{prefix}PixelPaddingValue": value, f"{prefix}PixelPaddingRangeLimit": limit}
    path = write_dicom(tmp_path / "a", np.array([[-7.5, 0], [40, 300]], dtype), "MONOCHROME1", **tags)
    assert read_dicom(path).tolist() == [[0, 255], [221, 0]]


@pytest.mark.parametrize("fill", [0, 1])
def test_a_bit_is_black_or_white(tmp_path: Path, fill: int) -> None:
    bits = np.full((3, 5), fill, np.uint8)
    bits[0, 1] = 1 - fill
    packed = np.packbits(bits.reshape(-1), bitorder="little")
    tags = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "PixelData": packed.tobytes()}
    assert (read_dicom(write_dicom(tmp_path / "a", bits, **tags)) == bits * 255).all()
    tags["PixelData"] = bytes([255 * fill] * 2)
    assert (read_dicom(write_dicom(tmp_path / "b", bits, **tags)) == 255 * fill).all()


@pytest.mark.parametrize("vr", ["OB", "OW"])
def test_bits_in_big_endian(tmp_path: Path, vr: str) -> None:
    bits = np.random.default_rng(3).integers(0, 2, (4, 8)).astype(np.uint8)
    packed = np.packbits(bits.reshape(-1), bitorder="little")
    data = packed.tobytes() if vr == "OB" else packed.view("<u2").astype(">u2").tobytes()
    tags = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "PixelData": pydicom.DataElement(0x7FE00010, vr, data)}
    path = write_dicom(tmp_path / "a", bits, syntax="1.2.840.10008.1.2.2", **tags)
    assert (read_dicom(path) == bits * 255).all()


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1", "RGB"])
@pytest.mark.parametrize("tags", [{}, {"WindowCenter": 900, "WindowWidth": 700}])
def test_pieces_of_a_large_picture_are_one_picture(
    tmp_path: Path, photometric: str, tags: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (11, 7, 3) if photometric == "RGB" else (11, 7)
    pixels = np.random.default_rng(4).integers(0, 2000, shape).astype(np.uint16)
    path = write_dicom(tmp_path / "a", pixels, photometric, **tags)
    whole = read_dicom(path)
    for size in (1, 20, 60):
        monkeypatch.setattr(display, "_BAND", size)
        np.testing.assert_array_equal(read_dicom(path), whole)
