"""The files that pydicom's package ships with: each as another decoder and a formula show it, or refused by name."""

from pathlib import Path

import numpy as np
import pytest

from mple.data import DataError

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("gdcm")
from mple.data.dicom_files.reader import DicomFiles  # noqa: E402
from tests.support.dicom_decodes import by_gdcm, element, inflated, pixel_data  # noqa: E402
from tests.support.dicom_files import by_window, read_dicom  # noqa: E402

FILES = Path(pydicom.__file__).parent / "data" / "test_files"
MR = (600.0, 1600.0)
"""Window of the files MR_small."""

GREY = {
    "MR_small.dcm": ("<i2", MR),
    "MR_small_padded.dcm": ("<i2", MR),
    "MR_small_implicit.dcm": ("<i2", MR),
    "MR_small_bigendian.dcm": (">i2", MR),
    "MR_small_expb.dcm": (">i2", MR),
    "CT_small.dcm": ("<i2", None),
    "examples_overlay.dcm": ("<u2", (450.0, 790.0)),
    "rtdose_1frame.dcm": ("<u4", None),
    "rtdose_expb_1frame.dcm": (">u4", None),
}
RESCALED = {
    "CT_small.dcm": (1.0, -1024.0),
    "rtdose_1frame.dcm": (1e-6, 0.0),
    "rtdose_expb_1frame.dcm": (1e-6, 0.0),
}
COMPRESSED_GREY = {
    "693_J2KI.dcm": (-1024.0, (40.0, 100.0)),
    "JPEG-lossy.dcm": (0.0, None),
    "JPGExtended.dcm": (0.0, None),
    "JPEG2000.dcm": (0.0, None),
    "JPEGLSNearLossless_08.dcm": (0.0, None),
    "JPEGLSNearLossless_16.dcm": (0.0, None),
}
LIKE_ANOTHER = {
    "MR_small_RLE.dcm": "MR_small.dcm",
    "MR_small_jp2klossless.dcm": "MR_small.dcm",
    "MR_small_jpeg_ls_lossless.dcm": "MR_small.dcm",
    "SC_rgb_rle_16bit.dcm": "SC_rgb_rle.dcm",
    "SC_rgb_rle_32bit.dcm": "SC_rgb_rle.dcm",
    "rtdose_rle_1frame.dcm": "rtdose_1frame.dcm",
    "SC_rgb_small_odd_big_endian.dcm": "SC_rgb_small_odd.dcm",
    "liver_expb_1frame.dcm": "liver_1frame.dcm",
}
RGB = (
    *("examples_rgb_color.dcm", "ExplVR_BigEnd.dcm", "SC_rgb_small_odd.dcm", "SC_rgb_jpeg_dcmd.dcm", "SC_rgb_rle.dcm"),
    *("SC_rgb_gdcm_KY.dcm", "SC_rgb_jpeg_gdcm.dcm", "SC_rgb_jls_lossy_line.dcm", "SC_rgb_jls_lossy_sample.dcm"),
    *("GDCMJ2K_TextGBR.dcm", "examples_jpeg2k.dcm", "SC_rgb_dcmtk_+eb+cr.dcm", "SC_jpeg_no_color_transform.dcm"),
    *("SC_jpeg_no_color_transform_2.dcm", "SC_rgb_jpeg.dcm", "SC_rgb_jpeg_app14_dcmd.dcm"),
)
YBR = (
    *("SC_rgb_dcmtk_+eb+cy+n1.dcm", "SC_rgb_dcmtk_+eb+cy+n2.dcm", "SC_rgb_dcmtk_+eb+cy+np.dcm"),
    *("SC_rgb_dcmtk_+eb+cy+s2.dcm", "SC_rgb_dcmtk_+eb+cy+s4.dcm", "SC_rgb_jpeg_dcmtk.dcm"),
    *("SC_rgb_jpeg_lossy_gdcm.dcm", "SC_rgb_small_odd_jpeg.dcm"),
)
BY_NAME = (
    *("J2K_pixelrep_mismatch.dcm", "liver_1frame.dcm", "examples_palette.dcm", "image_dfl.dcm"),
    "SC_ybr_full_422_uncompressed.dcm",
)
"""Each with a test of its own."""
REFUSED = {
    "ExplVR_BigEndNoMeta.dcm": "no picture but a RT Ion Plan",
    "ExplVR_LitEndNoMeta.dcm": "no picture but a RT Ion Plan",
    "JPEG2000-embedded-sequence-delimiter.dcm": "compressed pixels are 3722445056x1024, the file says 256x1024",
    "MR_truncated.dcm": "cut off: 8130 of 8192 bytes",
    "SC_rgb_rle_16bit_2frame.dcm": "holds 2 frames",
    "SC_rgb_rle_2frame.dcm": "holds 2 frames",
    "SC_rgb_rle_32bit_2frame.dcm": "holds 2 frames",
    "UN_sequence.dcm": "no picture but a CT Image, without pixels",
    "badVR.dcm": "holds 1A frames",
    "dicomdirtests/DICOMDIR*": "no picture but a DICOMDIR",
    "dicomdirtests/TINY_ALPHA/DICOMDIR": "no picture but a DICOMDIR",
    "dicomdirtests/TINY_ALPHA/PT000000/ST000000/SE000000/IM0000*": "no picture but a CT Image, without pixels",
    "empty_charset_LEI.dcm": "no picture but a DICOM object of no stated class",
    "examples_ybr_color.dcm": "holds 30 frames",
    "meta_missing_tsyntax.dcm": "without Rows and Columns",
    "nested_priv_SQ.dcm": "without Rows and Columns",
    "no_meta.dcm": "no DICOM file",  # a byte of its first tag is damaged
    "no_meta_group_length.dcm": "no picture but a RT Image",
    "priv_SQ.dcm": "no picture but a MR Image",
    "reportsi.dcm": "no picture but a Basic Text SR",
    "reportsi_with_empty_number_tags.dcm": "no picture but a Basic Text SR",
    "rtdose.dcm": "holds 15 frames",
    "rtdose_expb.dcm": "holds 15 frames",
    "rtdose_rle.dcm": "holds 15 frames",
    "rtplan.dcm": "no picture but a RT Plan",
    "rtplan_truncated.dcm": "no picture but a RT Plan",
    "rtstruct.dcm": "no picture but a RT Structure Set",
    "test-SR.dcm": "no picture but a Comprehensive SR",
    "waveform_ecg.dcm": "no picture but a 12-lead ECG Waveform",
    **dict.fromkeys(["*.dump", "*.json", "*.txt", "*.gz", "*.icc", "dicomdirtests/*.txt"], "no DICOM file"),
    "dicomdirtests/TINY_ALPHA/README": "no DICOM file",
}
SERIES = "dicomdirtests/[79]*/*/*"
CHARSETS = ["Arab", "Fren", "FrenMulti", "Germ", "Greek", "H31", "H32", "Hbrw", "I2", "Russ", "X1", "X2"]
"""Of the files in other alphabets, those with pixels."""


def _matching(*patterns: str) -> list[str]:
    return sorted(str(path.relative_to(FILES)) for pattern in patterns for path in FILES.glob(pattern))


def _own_range(values: np.ndarray) -> np.ndarray:
    values = values.astype(float)
    return np.rint((values - values.min()) / np.ptp(values) * 255).astype(np.uint8)


def _shown(values: np.ndarray, window: tuple[float, float] | None) -> np.ndarray:
    return _own_range(values) if window is None else by_window(values, *window)


def _rgb_of_ybr(values: np.ndarray) -> np.ndarray:
    """As JFIF defines it (ITU-T T.871)."""
    luma, blue, red = np.moveaxis(values.astype(float) - [0, 128, 128], -1, 0)
    rgb = np.stack([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], axis=-1)
    return np.clip(np.rint(rgb), 0, 255)


def test_no_file_is_left_out() -> None:
    named = {*GREY, *COMPRESSED_GREY, *LIKE_ANOTHER, *RGB, *YBR, *BY_NAME, *_matching(*REFUSED, SERIES)}
    assert sorted(named) == [name for name in _matching("**/*") if (FILES / name).is_file()]


@pytest.mark.parametrize("name", GREY)
def test_grey_values_without_compression(name: str) -> None:
    dtype, window = GREY[name]
    shown = read_dicom(FILES / name)
    values = pixel_data(FILES / name, dtype)[: shown.size].reshape(shown.shape)
    np.testing.assert_array_equal(shown, _shown(values, window))
    slope, intercept = RESCALED.get(name, (1.0, 0.0))
    window = (1.2, 0.9) if slope < 1 else (50.0, 900.0)
    windowed = by_window(values * slope + intercept, *window)
    np.testing.assert_array_equal(read_dicom(FILES / name, window), windowed)


@pytest.mark.parametrize("name", COMPRESSED_GREY)
def test_grey_values_that_are_compressed(name: str) -> None:
    intercept, window = COMPRESSED_GREY[name]
    np.testing.assert_array_equal(read_dicom(FILES / name), _shown(by_gdcm(FILES / name) + intercept, window))


def test_a_sign_that_only_the_file_knows() -> None:
    values = by_gdcm(FILES / "J2K_pixelrep_mismatch.dcm").astype(int) & 0x1FFF  # 13 bits, signed by the file alone
    values[values >= 0x1000] -= 0x2000
    np.testing.assert_array_equal(read_dicom(FILES / "J2K_pixelrep_mismatch.dcm"), by_window(values, 40, 100))


@pytest.mark.parametrize("name", _matching(SERIES))
def test_series_of_a_disc(name: str) -> None:
    about = pydicom.dcmread(FILES / name, stop_before_pixels=True)
    values = pixel_data(FILES / name, "<i2").reshape(16, 16) * float(about.get("RescaleSlope", 1))
    shown = by_window(values + float(about.get("RescaleIntercept", 0)), about.WindowCenter, about.WindowWidth)
    right = 255 - shown if "CR" in name else shown
    difference = np.abs(read_dicom(FILES / name).astype(int) - right)
    assert difference.max() <= ("CR" in name)  # half a level, turned over, rounds to either side


@pytest.mark.parametrize("name", CHARSETS)
def test_files_in_other_alphabets(name: str) -> None:
    path = FILES.parent / "charset_files" / f"chr{name}.dcm"
    np.testing.assert_array_equal(read_dicom(path), _own_range(pixel_data(path, "u1").reshape(32, 32)))


@pytest.mark.parametrize("name", LIKE_ANOTHER)
def test_the_same_picture_in_another_encoding(name: str) -> None:
    np.testing.assert_array_equal(read_dicom(FILES / name), read_dicom(FILES / LIKE_ANOTHER[name]))


@pytest.mark.parametrize("name", RGB)
def test_colours(name: str) -> None:
    np.testing.assert_array_equal(read_dicom(FILES / name), by_gdcm(FILES / name))


@pytest.mark.parametrize("name", YBR)
def test_colours_as_luma_and_chroma(name: str) -> None:
    difference = np.abs(read_dicom(FILES / name) - _rgb_of_ybr(by_gdcm(FILES / name)))
    assert difference.max() <= 1


def test_chroma_of_two_pixels() -> None:
    name = FILES / "SC_ybr_full_422_uncompressed.dcm"
    pairs = pixel_data(name, "u1").reshape(100, 50, 4)
    ybr = np.empty((100, 100, 3))
    ybr[:, 0::2, 0], ybr[:, 1::2, 0] = pairs[..., 0], pairs[..., 1]
    ybr[..., 1], ybr[..., 2] = pairs[..., 2].repeat(2, axis=1), pairs[..., 3].repeat(2, axis=1)
    assert np.abs(read_dicom(name) - _rgb_of_ybr(ybr)).max() <= 1


def test_a_palette() -> None:
    content = (FILES / "examples_palette.dcm").read_bytes()
    tables = [np.frombuffer(element(content, (0x0028, tag)), "<u2") for tag in (0x1201, 0x1202, 0x1203)]
    places = pixel_data(FILES / "examples_palette.dcm", "u1").reshape(350, 800)
    right = np.rint(np.stack([table[places] / 65535 for table in tables], axis=-1) * 255)
    np.testing.assert_array_equal(read_dicom(FILES / "examples_palette.dcm"), right)


def test_bits() -> None:
    bits = np.unpackbits(pixel_data(FILES / "liver_1frame.dcm", "u1"), bitorder="little").reshape(512, 512)
    np.testing.assert_array_equal(read_dicom(FILES / "liver_1frame.dcm"), bits * 255)


def test_a_deflated_file() -> None:
    values = np.frombuffer(element(inflated(FILES / "image_dfl.dcm"), (0x7FE0, 0x0010)), np.uint8)
    np.testing.assert_array_equal(read_dicom(FILES / "image_dfl.dcm"), _own_range(values).reshape(512, 512))


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for pattern, text in REFUSED.items() for name in _matching(pattern)[:3]]
)
def test_what_is_no_picture_is_named(name: str, text: str) -> None:
    with pytest.raises(DataError, match=text) as caught:
        read_dicom(FILES / name)
    assert str(FILES / name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [*GREY, *COMPRESSED_GREY, *LIKE_ANOTHER, *RGB, *YBR, *BY_NAME])
def test_headers_say_the_size(name: str) -> None:
    header = DicomFiles((), 10**9).header(FILES / name)
    shown = read_dicom(FILES / name)
    assert (header.height, header.width, header.is_grey) == (*shown.shape[:2], shown.ndim == 2)
