"""Colours of DICOM files: palettes in all their forms, luma and chroma, planes; right values by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ImageCms

from mple.data import DataError

pydicom = pytest.importorskip("pydicom")
from mple.data.dicom_files.reader import DicomFiles  # noqa: E402
from tests.support.colour_profiles import matrix_profile, srgb_levels  # noqa: E402
from tests.support.dicom_files import read_dicom, write_dicom  # noqa: E402

LITTLE, BIG, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2"
ORDERS = {LITTLE: "<", BIG: ">", IMPLICIT: "<"}
PLACES = np.array([[0, 1, 2], [3, 4, 200]], np.uint8)
"""The last lies beyond the tables, which have 5 entries."""
LEVELS = np.array([[0, 255, 10], [20, 30, 200], [40, 50, 60], [128, 64, 32], [255, 0, 1]])
"""Red, green and blue of each entry."""
WIDE = np.maximum(LEVELS * 257 - 50, 0)
"""The same in 16 bits, of two bytes that differ."""
SHOWN = LEVELS[np.minimum(PLACES, 4)]


def _palette(entries: np.ndarray, bits: int, packed: Any, first: int = 0, prefix: str = "") -> dict[str, Any]:
    """Attributes of three tables; `packed` makes bytes of the entries of one."""
    tags: dict[str, Any] = {}
    for number, colour in enumerate(("Red", "Green", "Blue")):
        name = f"{colour}PaletteColorLookupTable"
        tags[f"{name}Descriptor"] = [len(entries), first, bits]
        tags[f"{prefix}{name}Data"] = packed(entries[:, number])
    return tags


def _shown(path: Path, places: np.ndarray, syntax: str, tags: dict[str, Any]) -> np.ndarray:
    write_dicom(path, places, "PALETTE COLOR", syntax=syntax)
    about = pydicom.dcmread(path)
    for name, value in tags.items():
        tag = pydicom.datadict.tag_for_keyword(name)
        if name.endswith("Descriptor"):
            about.add_new(tag, "SS" if value[1] < 0 else "US", value)
        else:
            about.add_new(tag, "OW", value + bytes(len(value) % 2))
    about.save_as(path)
    assert not DicomFiles((), 10**9).header(path).is_grey
    return read_dicom(path)


@pytest.mark.parametrize("syntax", ORDERS)
@pytest.mark.parametrize("places", [PLACES, PLACES.astype(np.uint16), PLACES.astype(np.int16)], ids=["8", "16", "±16"])
class TestPalettes:
    """In every order of bytes, for every kind of pixel."""

    def test_of_16_bits(self, tmp_path: Path, syntax: str, places: np.ndarray) -> None:
        tags = _palette(WIDE, 16, lambda one: one.astype(f"{ORDERS[syntax]}u2").tobytes())
        np.testing.assert_array_equal(_shown(tmp_path / "a", places, syntax, tags), SHOWN)

    def test_of_8_bits_in_words(self, tmp_path: Path, syntax: str, places: np.ndarray) -> None:
        tags = _palette(LEVELS, 8, lambda one: one.astype(f"{ORDERS[syntax]}u2").tobytes())
        np.testing.assert_array_equal(_shown(tmp_path / "a", places, syntax, tags), SHOWN)

    def test_of_8_bits_two_in_a_word(self, tmp_path: Path, syntax: str, places: np.ndarray) -> None:
        def packed(one: np.ndarray) -> bytes:
            low_first = np.append(one, 0).astype(np.uint8).view("<u2")
            return low_first.astype(f"{ORDERS[syntax]}u2").tobytes()

        tags = _palette(LEVELS, 8, packed)
        np.testing.assert_array_equal(_shown(tmp_path / "a", places, syntax, tags), SHOWN)

    def test_of_8_bits_that_say_16(self, tmp_path: Path, syntax: str, places: np.ndarray) -> None:
        tags = _palette(LEVELS, 16, lambda one: one.astype(f"{ORDERS[syntax]}u2").tobytes())
        np.testing.assert_array_equal(_shown(tmp_path / "a", places, syntax, tags), SHOWN)

    def test_of_16_bits_that_say_8(self, tmp_path: Path, syntax: str, places: np.ndarray) -> None:
        tags = _palette(WIDE, 8, lambda one: one.astype(f"{ORDERS[syntax]}u2").tobytes())
        np.testing.assert_array_equal(_shown(tmp_path / "a", places, syntax, tags), SHOWN)

    def test_in_segments_of_16_bits(self, tmp_path: Path, syntax: str, places: np.ndarray) -> None:
        ramp = np.repeat(np.array([[0], [100], [200], [200], [50]]), 3, axis=1)
        # 0: one entry of 0; 1: two entries to 200; 0: 200 and 50
        words = np.array([0, 1, 0, 1, 2, 200 * 257 - 50, 0, 2, 200 * 257 - 50, 50 * 257 - 50])
        tags = _palette(ramp * 257, 16, lambda one: words.astype(f"{ORDERS[syntax]}u2").tobytes(), prefix="Segmented")
        np.testing.assert_array_equal(_shown(tmp_path / "a", places, syntax, tags), ramp[np.minimum(PLACES, 4)])

    def test_in_segments_of_8_bits(self, tmp_path: Path, syntax: str, places: np.ndarray) -> None:
        ramp = np.repeat(np.array([[0], [100], [200], [200], [50]]), 3, axis=1)
        data = np.array([0, 1, 0, 1, 2, 200, 0, 2, 200, 50], np.uint8).view("<u2")
        tags = _palette(ramp, 8, lambda one: data.astype(f"{ORDERS[syntax]}u2").tobytes(), prefix="Segmented")
        np.testing.assert_array_equal(_shown(tmp_path / "a", places, syntax, tags), ramp[np.minimum(PLACES, 4)])

    def test_in_segments_that_come_again(self, tmp_path: Path, syntax: str, places: np.ndarray) -> None:
        right = np.repeat(np.array([[7], [9], [7], [9], [11]]), 3, axis=1)
        # at byte 0: the list 7 and 9; then one segment once more from byte 0; then 11
        words = np.array([0, 2, 7 * 257 - 50, 9 * 257 - 50, 2, 1, 0, 0, 0, 1, 11 * 257 - 50])
        tags = _palette(right, 16, lambda one: words.astype(f"{ORDERS[syntax]}u2").tobytes(), prefix="Segmented")
        np.testing.assert_array_equal(_shown(tmp_path / "a", places, syntax, tags), right[np.minimum(PLACES, 4)])


@pytest.mark.parametrize("first", [3, -3])
def test_a_palette_begins_at_its_first_place(tmp_path: Path, first: int) -> None:
    places = np.array([[first - 1, first], [first + 4, first + 5]], np.int16)
    tags = _palette(LEVELS * 257, 16, lambda one: one.astype("<u2").tobytes(), first=first)
    np.testing.assert_array_equal(_shown(tmp_path / "a", places, LITTLE, tags), LEVELS[[[0, 0], [4, 4]]])


def test_a_segment_from_the_middle_is_counted_in_bytes(tmp_path: Path) -> None:
    right = np.repeat(np.array([[7], [9], [11], [9], [11]]), 3, axis=1)
    # the list 7 (3 words, 6 bytes), the list 9 and 11, and one segment once more from byte 6
    words = np.array([0, 1, 7 * 257, 0, 2, 9 * 257, 11 * 257, 2, 1, 6, 0], "<u2")
    tags = _palette(right, 16, lambda one: words.tobytes(), prefix="Segmented")
    np.testing.assert_array_equal(_shown(tmp_path / "a", PLACES, LITTLE, tags), right[np.minimum(PLACES, 4)])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([0, 9, 1], "a segment is cut off"),
        ([1, 2, 3], "a segment of kind 1 where none can be"),
        ([7, 2, 3], "a segment of kind 7"),
        ([0, 1, 5], "makes 1 entries, its descriptor says 5"),
        ([0, 1, 5, 2, 1, 6, 0], "a segment of kind 2 where none can be"),
    ],
)
def test_damaged_segments_are_named(tmp_path: Path, words: list[int], text: str) -> None:
    tags = _palette(LEVELS, 16, lambda one: np.array(words, "<u2").tobytes(), prefix="Segmented")
    with pytest.raises(DataError, match=text):
        _shown(tmp_path / "a", PLACES, LITTLE, tags)


def test_a_palette_without_blue_is_named(tmp_path: Path) -> None:
    tags = _palette(LEVELS, 16, lambda one: one.astype("<u2").tobytes())
    with pytest.raises(DataError, match="no BluePaletteColorLookupTableDescriptor"):
        _shown(tmp_path / "a", PLACES, LITTLE, {name: tags[name] for name in tags if "Blue" not in name})
    with pytest.raises(DataError, match="BluePaletteColorLookupTableData has 0 entries"):
        _shown(tmp_path / "a", PLACES, LITTLE, {**tags, "BluePaletteColorLookupTableData": b""})


# --- red, green, blue and what is turned into them ---------------------------------------------------------------

COLOURS = np.random.default_rng(5).integers(0, 256, (6, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("syntax", [*ORDERS, "1.2.840.10008.1.2.1.99"])
@pytest.mark.parametrize("planes", [0, 1])
@pytest.mark.parametrize("bits", [8, 16])
def test_planes_and_orders_of_bytes(tmp_path: Path, syntax: str, planes: int, bits: int) -> None:
    pixels = COLOURS.astype(f"u{bits // 8}") * (257 if bits == 16 else 1)
    stored = pixels.transpose(2, 0, 1) if planes else pixels
    data = stored.astype(stored.dtype.newbyteorder(ORDERS.get(syntax, "<"))).tobytes()
    path = write_dicom(tmp_path / "a", pixels, "RGB", syntax=syntax, PlanarConfiguration=planes, PixelData=data)
    np.testing.assert_array_equal(read_dicom(path), COLOURS)


def test_bytes_in_words_of_big_endian(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a", COLOURS, "RGB", syntax=BIG)
    about = pydicom.dcmread(path)
    about.add_new(0x7FE00010, "OW", COLOURS.reshape(-1).view("<u2").astype(">u2").tobytes())
    about.save_as(path)
    np.testing.assert_array_equal(read_dicom(path), COLOURS)


def _rgb_of_ybr(values: np.ndarray) -> np.ndarray:
    luma, blue, red = np.moveaxis(values.astype(float) - [0, 128, 128], -1, 0)
    rgb = np.stack([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], axis=-1)
    return np.clip(rgb, 0, 255)


@pytest.mark.parametrize("planes", [0, 1])
@pytest.mark.parametrize("bits", [8, 16])
def test_luma_and_chroma(tmp_path: Path, planes: int, bits: int) -> None:
    pixels = COLOURS.astype(f"u{bits // 8}") << (bits - 8)
    stored = pixels.transpose(2, 0, 1) if planes else pixels
    path = write_dicom(tmp_path / "a", pixels, "YBR_FULL", PlanarConfiguration=planes, PixelData=stored.tobytes())
    assert np.abs(read_dicom(path) - _rgb_of_ybr(COLOURS)).max() <= 1.5  # 255 of 8 bits is 65280 of 16


@pytest.mark.parametrize("photometric", ["YBR_PARTIAL_422", "YBR_PARTIAL_420", "ARGB", "HSV", "CMYK", "", "RGBA"])
def test_other_colours_are_named(tmp_path: Path, photometric: str) -> None:
    path = write_dicom(tmp_path / "a", COLOURS, photometric)
    with pytest.raises(DataError, match=f"PhotometricInterpretation '{photometric}' is not read; save it as MONO"):
        DicomFiles((), 10**9).header(path)


@pytest.mark.parametrize(
    ("pixels", "photometric", "tags", "text"),
    [
        (COLOURS, "MONOCHROME2", {}, "3 values a pixel, but is MONOCHROME2, which has 1"),
        (COLOURS[..., 0].copy(), "RGB", {}, "1 values a pixel, but is RGB, which has 3"),
        (COLOURS, "PALETTE COLOR", {}, "3 values a pixel, but is PALETTE COLOR"),
        (COLOURS, "RGB", {"PixelRepresentation": 1}, "colours are signed numbers"),
        (COLOURS, "YBR_RCT", {}, "YBR_RCT without the compression"),
        (COLOURS.astype(np.float32), "RGB", {}, "FloatPixelData is RGB; needs grey"),
    ],
)
def test_contradictions_are_named(
    tmp_path: Path, pixels: np.ndarray, photometric: str, tags: dict[str, Any], text: str
) -> None:
    with pytest.raises(DataError, match=text):
        read_dicom(write_dicom(tmp_path / "a", pixels, photometric, **tags))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("how", ["window", "table", "own range", "configured"])
def test_monochrome1_is_turned_over_last(tmp_path: Path, photometric: str, how: str) -> None:
    stored = np.array([[0, 1], [2, 3]], np.uint16)
    tags: dict[str, Any] = {"window": {"WindowCenter": 2, "WindowWidth": 4}}.get(how, {})
    if how == "table":
        table = pydicom.Dataset()
        table.LUTDescriptor, table.LUTData = [4, 0, 8], [0, 85, 170, 255]
        table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
        tags = {"VOILUTSequence": [table]}
    path = write_dicom(tmp_path / "a", stored, photometric, **tags)
    right = np.array([[0, 85], [170, 255]])
    if photometric == "MONOCHROME1":
        right = 255 - right
    np.testing.assert_array_equal(read_dicom(path, (2.0, 4.0) if how == "configured" else ()), right)


@pytest.mark.parametrize("shape", ["IDENTITY", "INVERSE"])
def test_the_photometric_interpretation_alone_turns_over(tmp_path: Path, shape: str) -> None:
    path = write_dicom(tmp_path / "a", np.array([[0, 9]], np.uint16), "MONOCHROME1", PresentationLUTShape=shape)
    assert read_dicom(path).tolist() == [[255, 0]]


# --- colour profiles ---------------------------------------------------------------------------------------------

LINEAR = matrix_profile(b"RGB ", 1.0)
"""A profile of values that are light, far from sRGB's."""


@pytest.mark.parametrize("nested", [False, True])
def test_a_profile_is_applied(tmp_path: Path, nested: bool) -> None:
    ramp = np.stack([np.arange(256, dtype=np.uint8).reshape(16, 16)] * 3, axis=-1)
    path = pydicom.Dataset()
    path.ICCProfile = LINEAR
    tags = {"OpticalPathSequence": [path]} if nested else {"ICCProfile": LINEAR}
    shown = read_dicom(write_dicom(tmp_path / "a", ramp, "RGB", **tags))
    assert np.abs(shown - srgb_levels(ramp / 255)).max() < 2.5


def test_the_profile_of_srgb_changes_nothing(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = write_dicom(tmp_path / "a", COLOURS, "RGB", ICCProfile=profile + bytes(len(profile) % 2))
    np.testing.assert_array_equal(read_dicom(path), COLOURS)


def test_a_damaged_profile_is_named(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a", COLOURS, "RGB", ICCProfile=LINEAR[:80])
    with pytest.raises(DataError, match="colour profile that can't be read"):
        read_dicom(path)


def test_profiles_of_several_paths_are_named(tmp_path: Path) -> None:
    one, other = pydicom.Dataset(), pydicom.Dataset()
    one.ICCProfile, other.ICCProfile = LINEAR, b"another profile."
    path = write_dicom(tmp_path / "a", COLOURS, "RGB", OpticalPathSequence=[one, other])
    with pytest.raises(DataError, match="2 optical paths have different colour profiles"):
        read_dicom(path)
