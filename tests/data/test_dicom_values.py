"""Rescale, lookup tables and windows of DICOM files: partly there, narrow or absurd; right values by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mple.data import DataError
from mple.data.dicom import DicomSource

pydicom = pytest.importorskip("pydicom")
from mple.data.dicom_files.reader import DicomFiles  # noqa: E402
from tests.support.dicom_files import by_window, item, read_dicom, write_dicom  # noqa: E402

HU = np.array([[-1000, 0], [40, 300]], np.int16)
STORED = (HU + 1024).astype(np.uint16)
RESCALE = {"RescaleSlope": 1, "RescaleIntercept": -1024}
SHOWN = [[0, 102], [128, 255]]
"""HU under a window of centre 40, width 400."""


@pytest.mark.parametrize(
    ("tags", "shown"),
    [
        ({"RescaleSlope": None, "RescaleIntercept": -1024}, SHOWN),
        ({"RescaleSlope": 1, "RescaleIntercept": None, "window": (1064, 400)}, SHOWN),
        ({"RescaleIntercept": -1024}, SHOWN),
        ({"RescaleSlope": 2, "window": (2128, 800)}, by_window(STORED * 2.0, 2128, 800).tolist()),
        ({"RescaleSlope": -1, "RescaleIntercept": 1024, "window": (-40, 400)}, by_window(-HU, -40, 400).tolist()),
        ({"RescaleSlope": 1e-9, "window": (1064e-9, 400e-9)}, by_window(STORED * 1e-9, 1064e-9, 400e-9).tolist()),
    ],
)
def test_rescale_that_is_partly_there(tmp_path: Path, tags: dict[str, Any], shown: list[list[int]]) -> None:
    window = tags.pop("window", (40, 400))
    assert read_dicom(write_dicom(tmp_path / "a", STORED, **tags), window).tolist() == shown


def _with_text(path: Path, *texts: tuple[bytes, bytes]) -> Path:
    """The file with such texts in the place of others of their length, which pydicom would not write."""
    content = path.read_bytes()
    for old, new in texts:
        assert content.count(old) == 1 and len(old) == len(new)
        content = content.replace(old, new)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("slope", "intercept", "text"),
    [
        (b"nan ", b"-1024.5 ", "RescaleSlope is nan; needs a finite number"),
        (b"inf ", b"-1024.5 ", "RescaleSlope is inf"),
        (b"0.00", b"-1024.5 ", "RescaleSlope is 0"),
        (b"1,50", b"-1024.5 ", "RescaleSlope is no number"),
        (b"1\\2 ", b"-1024.5 ", "RescaleSlope has 2 values"),
        (b"1.50", b"nan     ", "RescaleIntercept is nan"),
        (b"1.50", b"-inf    ", "RescaleIntercept is -inf"),
        (b"1.50", b"1e300   ", "leaves nothing of its values"),
        (b"1e99", b"1e308   ", "leaves nothing of its values"),
        (b"1e-9", b"1000000000000000"[:8], "leaves nothing of its values"),
    ],
)
def test_absurd_rescale_is_named(tmp_path: Path, slope: bytes, intercept: bytes, text: str) -> None:
    path = write_dicom(tmp_path / "a", STORED, RescaleSlope="1.25", RescaleIntercept="-1024.25")
    _with_text(path, (b"1.25", slope), (b"-1024.25", intercept))
    with pytest.raises(DataError, match=text):
        read_dicom(path, (40, 400))


def test_a_modality_table_comes_before_the_window(tmp_path: Path) -> None:
    table = item(LUTDescriptor=[4, 10, 16], LUTData=[0, 100, 50, 200])
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    stored = np.array([[9, 10], [11, 14]], np.uint16)  # 9 is below the first, 14 above the last
    path = write_dicom(tmp_path / "a", stored, ModalityLUTSequence=[table], RescaleSlope=7)
    assert read_dicom(path, (100.5, 201)).tolist() == [[0, 0], [128, 255]]


@pytest.mark.parametrize("first", [-2, 65534])
def test_tables_can_begin_below_zero(tmp_path: Path, first: int) -> None:
    table = item(LUTDescriptor=[3, first, 8], LUTData=[0, 51, 255])
    table["LUTDescriptor"].VR, table["LUTData"].VR = "SS" if first < 0 else "US", "US"
    stored = np.array([[-3, -2], [-1, 0]], np.int16)
    path = write_dicom(tmp_path / "a", stored, VOILUTSequence=[table])
    assert read_dicom(path).tolist() == [[0, 0], [51, 255]]


@pytest.mark.parametrize("in_words", [True, False])
def test_tables_of_8_bits_show_12_bit_values(tmp_path: Path, in_words: bool) -> None:
    levels = (np.arange(4096) // 16).astype(np.uint8)
    data = levels.astype("<u2").tobytes() if in_words else levels.tobytes()
    table = item(LUTDescriptor=[4096, 0, 8])
    table["LUTDescriptor"].VR = "US"
    table.add_new("LUTData", "OW", data)
    stored = np.array([[0, 255], [256, 4095]], np.uint16)
    path = write_dicom(tmp_path / "a", stored, BitsStored=12, HighBit=11, VOILUTSequence=[table])
    assert read_dicom(path).tolist() == [[0, 15], [16, 255]]


@pytest.mark.parametrize(
    ("tags", "text"),
    [
        ({"LUTDescriptor": [9, 0, 16], "LUTData": [0, 1]}, "LUTData has 2 entries, its descriptor says 9"),
        ({"LUTDescriptor": [2, 0, 77], "LUTData": [0, 1]}, "77 bits an entry"),
        ({"LUTDescriptor": [2, 0], "LUTData": [0, 1]}, "needs three numbers"),
        ({"LUTDescriptor": [2, 0, 16]}, "lacks LUTDescriptor or LUTData"),
    ],
)
def test_damaged_tables_are_named(tmp_path: Path, tags: dict[str, Any], text: str) -> None:
    table = item(**tags)
    for name in tags:
        table[name].VR = "US"
    path = write_dicom(tmp_path / "a", STORED, VOILUTSequence=[table])
    with pytest.raises(DataError, match=text):
        read_dicom(path)


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
@pytest.mark.parametrize(
    ("centre", "width", "function", "shown"),
    [
        (0.004, 0.04, "LINEAR", SHOWN),
        (0.004, 0.04, "LINEAR_EXACT", SHOWN),
        (0.004, 0.04, "linear ", SHOWN),
        (0.004, 0.04, "SIGMOID", [[0, 102], [128, 237]]),  # 255 / (1 + exp(-4 (x - c) / w))
    ],
)
def test_narrow_windows(tmp_path: Path, centre: float, width: float, function: str, shown: list[list[int]]) -> None:
    tags = {"RescaleSlope": 1e-4, "RescaleIntercept": -0.1024}
    where = {"WindowCenter": centre, "WindowWidth": width}
    pydicom.config.settings.writing_validation_mode, before = 0, pydicom.config.settings.writing_validation_mode
    path = write_dicom(tmp_path / "a", STORED, **tags, **where, VOILUTFunction=function)
    pydicom.config.settings.writing_validation_mode = before
    assert read_dicom(path).tolist() == shown
    if function != "SIGMOID":
        assert read_dicom(path, (centre, width)).tolist() == shown


@pytest.mark.parametrize(
    ("centre", "width", "tags", "text"),
    [
        (b"40.2500 ", b"0.000000", {}, "width 0 is not allowed"),
        (b"40.2500 ", b"-400.000", {}, "width -400 is not allowed"),
        (b"40.2500 ", b"nan     ", {}, "WindowWidth is nan"),
        (b"nan     ", b"400.0000", {}, "WindowCenter is nan"),
        (b"inf     ", b"400.0000", {}, "WindowCenter is inf"),
        (b"40.2500 ", b"inf     ", {}, "WindowWidth is inf"),
        (b"40.2500 ", b"1e300   ", {}, "shows none of the values that it can have, -1024 to 64511"),
        (b"9000000 ", b"400.0000", {}, "shows none of the values"),
        (b"-90000  ", b"400.0000", {}, "shows none of the values"),
        (b"wide    ", b"400.0000", {}, "WindowCenter is no number"),
        (b"        ", b"400.0000", {}, "only one of WindowCenter and WindowWidth"),
        (b"40.2500 ", b"400.0000", {"VOILUTFunction": "CUBIC"}, "VOILUTFunction 'CUBIC' is not allowed"),
    ],
)
def test_absurd_windows_are_named_with_the_way_out(
    tmp_path: Path, centre: bytes, width: bytes, tags: dict[str, Any], text: str
) -> None:
    path = write_dicom(tmp_path / "a", STORED, **RESCALE, **tags, WindowCenter="40.12345", WindowWidth="400.1234")
    _with_text(path, (b"40.12345", centre), (b"400.1234", width))
    with pytest.raises(DataError, match=rf"{text}.*set `window = \[centre, width\]` in \[data\]"):
        DicomFiles((), 10**9).header(path)
    assert read_dicom(path, (40, 400)).tolist() == SHOWN


@pytest.mark.parametrize("window", [(40, 0), (40, -1), (float("nan"), 9), (40, float("inf")), (40,), (1, 2, 3)])
def test_impossible_settings_are_refused(window: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"window = \[.*needs centre and width, the width above 0"):
        DicomSource(path=Path(), window=window)
