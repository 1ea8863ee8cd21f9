"""Files as hospitals have them, and where DICOM files say what they say: right values by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mple.data import DataError
from mple.data.dicom import DicomSource
from mple.data.patients import Patients
from mple.morph import ImageShape
from mple.prediction.pictures import picture_files

pydicom = pytest.importorskip("pydicom")
from mple.data.dicom_files.reader import DicomFiles  # noqa: E402
from tests.support.dicom_files import by_window, item, read_dicom, write_dicom  # noqa: E402

CASES = Path(__file__).parent / "cases"
HU = np.array([[-1000, 0], [40, 300]], np.int16)
STORED = (HU + 1024).astype(np.uint16)
RESCALE = {"RescaleSlope": 1, "RescaleIntercept": -1024}
SHOWN = [[0, 102], [128, 255]]
"""HU under a window of centre 40, width 400."""
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"


def _quadrants(path: Path, window: tuple[float, ...] = ()) -> list[list[int]]:
    pixels = read_dicom(path, window)
    assert pixels.shape == (32, 32)
    for rows in (slice(0, 16), slice(16, 32)):
        for columns in (slice(0, 16), slice(16, 32)):
            assert len(np.unique(pixels[rows, columns])) == 1
    return pixels[8::16, 8::16].tolist()


@pytest.mark.parametrize(
    ("name", "window", "shown"),
    [
        ("enhanced_perframe", (), SHOWN),
        ("enhanced_perframe", (40, 400), SHOWN),
        ("highbit15_stored12", (), SHOWN),
        ("float_nan", (), [[0, 196], [204, 255]]),  # (HU + 1000) / 1300
        ("padding_nowindow", (), [[0, 0], [34, 255]]),  # HU / 300, without the padding of -2000
        ("padding_mono1_win", (), [[0, 153], [127, 0]]),
        ("slopeempty", (), SHOWN),
        ("slopeempty", (1064, 400), SHOWN),
        ("ww0", (40, 400), SHOWN),
        ("narrow_window", (), SHOWN),
        ("narrow_window", (0.1064, 0.04), SHOWN),
    ],
)
def test_cases_are_shown_as_they_say(name: str, window: tuple[float, ...], shown: list[list[int]]) -> None:
    assert _quadrants(CASES / f"{name}.dcm", window) == shown


@pytest.mark.parametrize(
    ("name", "window", "text"),
    [
        ("slope0", (), "RescaleSlope is 0"),
        ("slope0", (40, 400), "RescaleSlope is 0"),
        ("ww0", (), r"width 0 is not allowed.*set `window = \[centre, width\]` in \[data\]"),
    ],
)
def test_cases_that_can_not_be_shown_are_named(name: str, window: tuple[float, ...], text: str) -> None:
    reader = DicomFiles(window, 10**9)
    for read in (reader.header, reader.picture):
        with pytest.raises(DataError, match=rf"{name}\.dcm.*{text}"):
            read(CASES / f"{name}.dcm")


_TRANSFORM = item(PixelValueTransformationSequence=[item(**RESCALE)])
_WINDOW = item(FrameVOILUTSequence=[item(WindowCenter=40, WindowWidth=400)])
_WRONG = item(
    PixelValueTransformationSequence=[item(RescaleSlope=3, RescaleIntercept=7)],
    FrameVOILUTSequence=[item(WindowCenter=1, WindowWidth=2)],
)


def _philips() -> Any:
    group = item()
    block = group.private_block(0x2005, "Philips MR Imaging DD 005", create=True)
    block.add_new(0x0F, "SQ", pydicom.Sequence([item(**RESCALE, WindowCenter=40, WindowWidth=400)]))
    moved = pydicom.DataElement(0x2005140F, "SQ", block[0x0F].value)
    group.add(moved)
    return group


def _both() -> Any:
    group = item()
    group.update(_TRANSFORM)
    group.update(_WINDOW)
    return group


@pytest.mark.parametrize(
    ("frame", "shared", "root"),
    [
        (_both, None, {}),
        (None, _both, {}),
        (_both, lambda: _WRONG, {"WindowCenter": 9, "WindowWidth": 9, "RescaleSlope": 9}),
        (lambda: item(FrameAcquisitionNumber=1), _both, {"WindowCenter": 9, "WindowWidth": 9}),
        (lambda: _TRANSFORM, lambda: _WINDOW, {}),
        (lambda: _WINDOW, lambda: _TRANSFORM, {}),
        (lambda: _WINDOW, None, RESCALE),
        (lambda: item(FrameAcquisitionNumber=1), None, {**RESCALE, "WindowCenter": 40, "WindowWidth": 400}),
        (lambda: item(**RESCALE, WindowCenter=40, WindowWidth=400), None, {}),
        (_philips, lambda: _WRONG, {}),
        (lambda: item(PixelValueTransformationSequence=[item(RescaleSlope=None)]), _both, {}),
    ],
)
def test_frame_wins_over_shared_wins_over_root(tmp_path: Path, frame: Any, shared: Any, root: dict[str, Any]) -> None:
    groups = {"PerFrameFunctionalGroupsSequence": frame, "SharedFunctionalGroupsSequence": shared}
    tags = {name: [make()] for name, make in groups.items() if make is not None}
    path = write_dicom(tmp_path / "a", STORED, sop_class=ENHANCED_CT, NumberOfFrames=1, **tags, **root)
    assert read_dicom(path).tolist() == SHOWN
    assert read_dicom(path, (140, 200)).tolist() == by_window(HU, 140, 200).tolist()


def test_a_lookup_table_of_a_frame_wins_over_the_roots_window(tmp_path: Path) -> None:
    table = item(LUTDescriptor=[2, 0, 8], LUTData=[0, 255])
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    group = item(FrameVOILUTSequence=[item(VOILUTSequence=[table])])
    tags = {"PerFrameFunctionalGroupsSequence": [group], "WindowCenter": 0, "WindowWidth": 9}
    path = write_dicom(tmp_path / "a", np.array([[0, 1]], np.uint16), **tags)
    assert read_dicom(path).tolist() == [[0, 255]]


def test_groups_of_other_frames_are_told_from_the_only_ones(tmp_path: Path) -> None:
    same, other = [_both(), _both()], [_both(), _WRONG]
    path = write_dicom(tmp_path / "a", STORED, PerFrameFunctionalGroupsSequence=same)
    assert read_dicom(path).tolist() == SHOWN
    path = write_dicom(tmp_path / "b", STORED, PerFrameFunctionalGroupsSequence=other)
    with pytest.raises(DataError, match="has 2 frames, which differ"):
        read_dicom(path)


def test_real_world_values_are_no_part_of_what_is_shown(tmp_path: Path) -> None:
    mapped = item(RealWorldValueSlope=5.0, RealWorldValueIntercept=-3.0)
    path = write_dicom(tmp_path / "a", STORED, **RESCALE, RealWorldValueMappingSequence=[mapped])
    assert read_dicom(path, (40, 400)).tolist() == SHOWN


@pytest.mark.parametrize("window", [(), (40.0, 400.0)])
def test_training_and_prediction_read_alike(tmp_path: Path, window: tuple[float, ...]) -> None:
    names = ["enhanced_perframe", "padding_mono1_win", "float_nan", "highbit15_stored12"]
    for name in names:
        (tmp_path / f"{name}.dcm").write_bytes((CASES / f"{name}.dcm").read_bytes())
    rows = [f"{name}.dcm,{'ab'[number % 2]},train" for number, name in enumerate(names)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label,split", *rows, ""]))
    source = DicomSource(path=tmp_path, window=window, patients=Patients.IGNORED)
    trained = source.catalogue().train.read(np.arange(len(names)))
    files = [tmp_path / f"{name}.dcm" for name in names]
    predicted = picture_files(source.reading(), files, ImageShape(channels=1, height=32, width=32), resize=False)
    np.testing.assert_array_equal(predicted.read(slice(0, len(names))), trained)
    for name, pixels in zip(names, trained, strict=True):
        np.testing.assert_array_equal(read_dicom(CASES / f"{name}.dcm", window), pixels[0])
