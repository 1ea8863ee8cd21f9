"""DICOM: grey values as a viewer would show them, labels from a table."""

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mple.data import DataError, Dataset, open_source
from mple.data.dicom import DicomSource
from mple.data.dicom_files.display import windowed
from mple.data.settings import Validation

pydicom = pytest.importorskip("pydicom")
from pydicom.dataset import Dataset as Header  # noqa: E402
from pydicom.pixels import apply_windowing  # noqa: E402

from tests.support.dicom_files import read_dicom, write_dicom  # noqa: E402

RAMP = np.arange(-1000, 1000, 2000 / 48).astype(np.int16).reshape(6, 8)


def _table(folder: Path, rows: list[dict[str, str]], name: str = "labels.csv") -> None:
    with (folder / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _open(path: Path, **settings: Any) -> Dataset:
    return open_source(DicomSource(path=path, **settings))


def test_modality_transform_and_window_by_hand(tmp_path: Path) -> None:
    stored = np.array([[0, 50], [100, 200]], np.uint16)
    write_dicom(tmp_path / "a", stored, RescaleSlope=2, RescaleIntercept=-100, WindowCenter=100.5, WindowWidth=201)
    # in Hounsfield units -100, 0, 100, 300; the window goes from 0 to 200
    assert read_dicom(tmp_path / "a").tolist() == [[0, 0], [128, 255]]


def test_monochrome1_is_the_negative(tmp_path: Path) -> None:
    for kind in ("MONOCHROME1", "MONOCHROME2"):
        write_dicom(tmp_path / kind, RAMP, kind, WindowCenter=100, WindowWidth=800)
    sums = read_dicom(tmp_path / "MONOCHROME1").astype(int) + read_dicom(tmp_path / "MONOCHROME2")
    assert set(np.unique(sums)) <= {254, 255, 256}


def test_without_window_the_own_range_is_used(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a", RAMP)
    pixels = read_dicom(tmp_path / "a")
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_a_picture_of_one_value_is_black_not_an_error(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a", np.full((4, 4), 700, np.int16))
    assert not read_dicom(tmp_path / "a").any()


def test_the_first_of_several_windows_counts(tmp_path: Path) -> None:
    write_dicom(tmp_path / "many", RAMP, WindowCenter=[100, 0], WindowWidth=[800, 1])
    write_dicom(tmp_path / "one", RAMP, WindowCenter=100, WindowWidth=800)
    np.testing.assert_array_equal(read_dicom(tmp_path / "many"), read_dicom(tmp_path / "one"))


def test_the_configured_window_overrides_the_file(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a", RAMP, WindowCenter=0, WindowWidth=10)
    write_dicom(tmp_path / "b", RAMP, WindowCenter=100, WindowWidth=800)
    np.testing.assert_array_equal(read_dicom(tmp_path / "a", window=(100, 800)), read_dicom(tmp_path / "b"))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("centre", "width"), [(0, 400), (-300.5, 37), (900, 4000)])
def test_windows_agree_with_pydicom(function: str, centre: float, width: float) -> None:
    about = Header()
    about.PhotometricInterpretation, about.BitsStored, about.PixelRepresentation = "MONOCHROME2", 16, 1
    about.WindowCenter, about.WindowWidth, about.VOILUTFunction = centre, width, function
    expected = (apply_windowing(RAMP, about) + 32768) / 65535  # pydicom scales to the range of 16 signed bits
    np.testing.assert_allclose(windowed(RAMP.astype(float), centre, width, function), expected, atol=1e-9)


def test_a_window_of_width_one_is_a_threshold() -> None:
    assert windowed(np.array([9.0, 9.5, 10.0]), 10, 1, "LINEAR").tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("width", "function"), [(0, "LINEAR"), (-1, "LINEAR_EXACT"), (9, "CUBIC"), (float("nan"), "LINEAR")]
)
def test_impossible_windows_are_refused(width: float, function: str) -> None:
    with pytest.raises(DataError, match="is not allowed"):
        windowed(np.zeros(3), 0, width, function)


def test_a_lookup_table_comes_before_a_window(tmp_path: Path) -> None:
    lut = Header()
    lut.LUTDescriptor, lut.LUTData = [4, 0, 16], [0, 65535, 13107, 26214]
    lut["LUTDescriptor"].VR = "US"
    lut["LUTData"].VR = "US"
    stored = np.array([[0, 1], [2, 3]], np.uint16)
    write_dicom(tmp_path / "a", stored, VOILUTSequence=[lut], WindowCenter=0, WindowWidth=1)
    assert read_dicom(tmp_path / "a").tolist() == [[0, 255], [51, 102]]


def test_colour_is_kept(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    write_dicom(tmp_path / "a", pixels, "RGB")
    np.testing.assert_array_equal(read_dicom(tmp_path / "a"), pixels)


def test_ybr_becomes_rgb(tmp_path: Path) -> None:
    pixels = np.tile(np.array([76, 85, 255], np.uint8), (4, 4, 1))  # pure red
    write_dicom(tmp_path / "a", pixels, "YBR_FULL")
    assert np.abs(read_dicom(tmp_path / "a")[0, 0].astype(int) - [254, 0, 0]).max() <= 2


def test_a_palette_becomes_rgb(tmp_path: Path) -> None:
    table = {}
    for colour, values in (("Red", (0, 65535)), ("Green", (0, 0)), ("Blue", (65535, 0))):
        table[f"{colour}PaletteColorLookupTableDescriptor"] = [2, 0, 16]
        table[f"{colour}PaletteColorLookupTableData"] = np.array(values, np.uint16).tobytes()
    write_dicom(tmp_path / "a", np.array([[0, 1]], np.uint8), "PALETTE COLOR", **table)
    assert read_dicom(tmp_path / "a").tolist() == [[[0, 0, 255], [255, 0, 0]]]


def _folder(path: Path, **columns: list[str]) -> None:
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    for number, row in enumerate(rows):
        write_dicom(path / row["file"], (RAMP + number).astype(np.int16), WindowCenter=0, WindowWidth=2000)
    _table(path, rows)


def test_the_table_gives_labels_and_splits(tmp_path: Path) -> None:
    files, classes = ["a/1.dcm", "a/2.dcm", "3.dcm", "4.dcm"], ("sick", "well")
    _folder(tmp_path, file=files, label=["sick", "well", "well", "sick"], split=["train", "test", "val", "train"])
    dataset = _open(tmp_path, classes=classes)
    assert dataset.classes == ("sick", "well")
    assert [one.labels.tolist() for one in (dataset.train, dataset.val, dataset.test)] == [[0, 0], [1], [1]]
    assert _open(tmp_path, validation=Validation.TRAIN).train.labels.tolist() == [0, 0, 1]
    assert (dataset.train.shape.channels, dataset.train.shape.height, dataset.train.shape.width) == (1, 6, 8)
    ignored = _open(tmp_path, validation=Validation.IGNORED, classes=("sick", "well"))
    assert len(ignored.train) == 2


def test_without_split_column_a_share_is_held_out(tmp_path: Path) -> None:
    _folder(tmp_path, file=[f"{n}.dcm" for n in range(10)], label=["sick", "well"] * 5)
    dataset = _open(tmp_path, test_share=0.4)
    assert np.bincount(dataset.test.labels).tolist() == [2, 2]


def test_sizes_that_differ_need_side_px(tmp_path: Path) -> None:
    _folder(tmp_path, file=["1.dcm", "2.dcm"], label=["sick", "well"])
    write_dicom(tmp_path / "2.dcm", RAMP.reshape(8, 6))
    with pytest.raises(DataError, match=r"2\.dcm is 6x8; set side_px"):
        _open(tmp_path)
    assert _open(tmp_path, side_px=4).train.shape.height == 4


def test_the_table_can_lie_elsewhere_and_name_a_class_that_does_not_occur(tmp_path: Path) -> None:
    _folder(tmp_path / "scans", file=["1.dcm", "2.dcm"], label=["sick", "well"])
    (tmp_path / "scans/labels.csv").rename(tmp_path / "mine.csv")
    source = {"label_file": tmp_path / "mine.csv", "classes": ("well", "unsure", "sick")}
    assert sorted(_open(tmp_path / "scans", test_share=0.0, **source).train.labels.tolist()) == [0, 2]


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"file": "../1.dcm", "label": "well", "split": ""}, "leads out of the folder"),
        ({"file": "/1.dcm", "label": "well", "split": ""}, "leads out of the folder"),
        ({"file": "C:\\1.dcm", "label": "well", "split": ""}, "leads out of the folder"),
        ({"file": "1.dcm", "label": "well", "split": ""}, "named twice"),
        ({"file": "2.dcm", "label": "", "split": ""}, "empty"),
        ({"file": "2.dcm", "label": "well", "split": "all"}, "split 'all'; choose one of train, training, val"),
        ({"file": "2.dcm", "label": "well", "split": "train"}, "'sick' is not one of classes"),
        ({"file": "none.dcm", "label": "sick", "split": "train"}, r"no DICOM file at .*none\.dcm"),
    ],
)
def test_wrong_rows_are_refused(tmp_path: Path, row: dict[str, str], text: str) -> None:
    write_dicom(tmp_path / "1.dcm", RAMP)
    write_dicom(tmp_path / "2.dcm", RAMP)
    _table(tmp_path, [{"file": "1.dcm", "label": "sick", "split": row["split"] and "test"}, row])
    classes = ("well", "unsure") if "not one of" in text else ("well", "sick")
    with pytest.raises(DataError, match=text):
        _open(tmp_path, classes=classes)


def test_no_table_and_no_columns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no table at"):
        _open(tmp_path)
    _table(tmp_path, [{"name": "1.dcm", "class": "sick"}])
    with pytest.raises(DataError, match=r"needs file,label\[,split\]\[,patient\]"):
        _open(tmp_path)


@pytest.mark.parametrize(
    ("tags", "text"),
    [
        ({"NumberOfFrames": 2, "PixelData": bytes(192)}, "holds 2 frames"),
        ({"PixelData": bytes(10)}, "cut off: 10 of 96 bytes"),
        ({"Rows": 60_000, "Columns": 60_000}, "60000x60000; a picture has at most"),
    ],
)
def test_files_that_can_not_be_used_are_named(tmp_path: Path, tags: dict[str, Any], text: str) -> None:
    _folder(tmp_path, file=["1.dcm", "2.dcm"], label=["sick", "well"])
    write_dicom(tmp_path / "2.dcm", RAMP, **tags)
    with pytest.raises(DataError, match=text) as caught:
        _open(tmp_path, side_px=4, most_bytes=10**9)
    assert "2.dcm" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no DICOM", bytes(128) + b"DICM" + b"\xff" * 40])
def test_damaged_files_are_named(tmp_path: Path, content: bytes) -> None:
    _folder(tmp_path, file=["1.dcm", "2.dcm"], label=["sick", "well"])
    (tmp_path / "2.dcm").write_bytes(content)
    with pytest.raises(DataError, match=r"2\.dcm"):
        _open(tmp_path)


def test_without_pydicom_the_way_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(DataError, match=r"pip install 'mple\[dicom\]'"):
        _open(tmp_path)


def test_a_set_without_windows_is_told(tmp_path: Path) -> None:
    _folder(
        tmp_path, file=["1.dcm", "2.dcm", "3.dcm"], label=["sick", "well", "well"], split=["train", "train", "test"]
    )
    assert not any("own range" in note for note in _open(tmp_path).notes)
    for name in ("1.dcm", "3.dcm"):
        write_dicom(tmp_path / name, RAMP)
    assert any("own range: 2 of 3 pictures have no window" in note for note in _open(tmp_path).notes)
    assert not any("own range" in note for note in _open(tmp_path, window=(0, 2000)).notes)
    assert any("few levels" in note and "set window" in note for note in _open(tmp_path, window=(0, 90000)).notes)
