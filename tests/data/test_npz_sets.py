"""Archives whose labels are codes, have gaps or come under other names: bounded and named before memory is taken."""

import resource
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mple.data import DataError, Dataset, NpzSource, open_source
from mple.data.settings import Validation

IMAGES = np.zeros((8, 4, 4), np.uint8)
IMAGES[:, 0, 0] = 255
HALF = np.array([0, 1, 0, 1, 0, 1, 0, 1])


def _open(folder: Path, arrays: dict[str, Any], **settings: Any) -> Dataset:
    np.savez(folder / "set.npz", **arrays)
    return open_source(NpzSource(path=folder / "set.npz", **settings))


def _with_labels(train: Any, test: Any = (0, 1)) -> dict[str, Any]:
    train = np.asarray(train)
    images = np.zeros((len(train), 4, 4), np.uint8)
    images[:, 0, 0] = 255
    return {"x_train": images, "y_train": train, "x_test": images[: len(test)], "y_test": np.asarray(test)}


@pytest.mark.parametrize("codes", [(1000001, 2000003), (0, 20231105), (0, 4711000123456), (0, 2**62), (65_535, 0)])
def test_codes_are_refused_before_a_class_is_made_of_each_number(tmp_path: Path, codes: tuple[int, int]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=f"label {max(codes)} is out of range|label {min(codes)} is out of range"):
        _open(tmp_path, _with_labels([*codes, *codes]))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024  # KiB


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([0, 1, 2, 255], "go up to 255, but no image has 3, 4, 5 and 249 more; number the classes from 0"),
        ([1, 2, 3, 1], "go up to 3, but no image has 0;"),
        ([0, 1, 3, 0], "but no image has 2;"),
        ([0, 1, 4711, 0], "no image has 2, 3, 4 and 4706 more"),
        ([0, 1, -1, 0], "label -1 is out of range"),
        (np.array([0, 1, 2**63, 2**64 - 1], np.uint64), "hold 18446744073709551615, which is out of range"),
        ([0.0, 1.0, 0.0, 1.0], "y_train are float64; needs whole numbers"),
        ([True, False, True, False], "y_train are bool; needs whole numbers"),
        (["a", "b", "a", "b"], "y_train are <U1; needs whole numbers"),
        (np.array([0, 1, 0, 1], "m8[s]"), "y_train are timedelta64.s.; needs whole numbers"),
        (np.array([0, 1, 0, 1], "M8[s]"), "y_train are datetime64.s.; needs whole numbers"),
        (
            [[0, 1], [1, 0], [0, 1], [1, 0]],
            r"x_test have labels of shape \(2,\), x_train have labels of shape \(4, 2\)",
        ),
        ([[0.0, 1.0], [1, 0], [0, 1], [1, 0]], "y_train are float64; needs whole numbers"),
        ([0j, 1j, 0j, 1j], "y_train are complex128"),
    ],
)
def test_labels_that_count_no_classes_are_refused(tmp_path: Path, labels: Any, text: str) -> None:
    with pytest.raises(DataError, match=text):
        _open(tmp_path, _with_labels(labels, (1, 1)))


def test_a_class_without_an_image_can_be_stated(tmp_path: Path) -> None:
    dataset = _open(tmp_path, _with_labels([0, 1, 3, 0]), classes=("a", "b", "c", "d"))
    assert dataset.train.labels.tolist() == [0, 1, 3, 0]
    assert dataset.notes == ("no test picture of class 'd'", "no picture at all of class 'c'")


def test_a_class_of_test_images_alone_is_refused_unless_stated(tmp_path: Path) -> None:
    arrays = _with_labels([0, 1, 0, 1], (0, 2))
    with pytest.raises(DataError, match="class '2' has test images and no training image"):
        _open(tmp_path, arrays)
    assert _open(tmp_path, arrays, classes=("a", "b", "c")).notes[0] == "no training picture of class 'c'"


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i4", ">i8", "<u8"])
@pytest.mark.parametrize("shape", [(8,), (8, 1)])
def test_whole_numbers_of_any_size_are_labels(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    dataset = _open(tmp_path, _with_labels(HALF.astype(dtype).reshape(shape), (0, 1)))
    assert dataset.train.labels.tolist() == HALF.tolist()


def _four(train: str, test: str, third: str = "") -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for name in filter(None, (train, test, third)):
        arrays |= {name: IMAGES, name.replace("images", "labels").replace("x", "y"): HALF}
    return arrays


@pytest.mark.parametrize(
    "arrays",
    [
        _four("train_images", "test_images", "valid_images"),
        _four("x_train", "x_test", "x_validation"),
        _four("x_train", "x_test", "x_val"),
        _four("training_images", "testing_images", "validation_images"),
    ],
)
@pytest.mark.parametrize(
    ("validation", "train", "val"), [(Validation.VAL, 8, 8), (Validation.TRAIN, 16, 0), (Validation.IGNORED, 8, 0)]
)
def test_a_validation_split_is_one_by_any_name(
    tmp_path: Path, arrays: dict[str, Any], validation: Validation, train: int, val: int
) -> None:
    dataset = _open(tmp_path, arrays, validation=validation)
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (train, val, 8)


@pytest.mark.parametrize("style", [("images", "labels"), ("x", "y")])
def test_an_undivided_set_is_divided_by_share(tmp_path: Path, style: tuple[str, str]) -> None:
    pixels = np.arange(40, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8)
    dataset = _open(tmp_path, {style[0]: pixels, style[1]: np.arange(40) % 2}, test_share=0.25)
    assert (len(dataset.train), np.bincount(dataset.test.labels).tolist()) == (30, [5, 5])
    for split in (dataset.train, dataset.test):
        assert split.labels.tolist() == (split.pixels_NCHW[:, 0, 0, 0] % 2).tolist()


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        (_four("x_train", "x_test") | _four("train_images", "test_images"), "both the train split"),
        (_four("x_train", "x_test", "x_val") | _four("", "", "x_valid"), "x_val and x_valid, both the val split"),
        (_four("x_train", "x_test") | {"x_val": IMAGES}, "holds x_val without y_val"),
        (_four("x_train", "x_test") | {"y_holdout": HALF}, "holds y_holdout, which means nothing here"),
        (_four("x_train", "x_test") | _four("images", ""), "both the train split"),
        (_four("images", "test_images"), "an undivided set beside a test split"),
        (_four("x_train", ""), "holds x_train, y_train; needs train_images"),
        (_four("x_train", "x_test") | {"patient_val": HALF}, "holds patient_val, which means nothing here"),
        (_four("x_train", "x_test") | {"patient_train": HALF, "train_patients": HALF}, "both the patients of x_train"),
    ],
)
def test_doubtful_arrays_are_refused(tmp_path: Path, arrays: dict[str, Any], text: str) -> None:
    with pytest.raises(DataError, match=text):
        _open(tmp_path, arrays)


def test_one_array_twice_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", **_four("x_train", "x_test"))
    with zipfile.ZipFile(tmp_path / "set.npz", "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("y_train.npy", archive.read("y_test.npy"))
    with pytest.raises(DataError, match=r"holds 'y_train\.npy' twice"):
        open_source(NpzSource(path=tmp_path / "set.npz"))


def test_an_array_in_fortrans_order_counts_against_memory_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.zeros((9, 4, 4), np.uint8)
    images[:, 0] = 255
    np.savez(tmp_path / "set.npz", x=np.asfortranarray(images), y=np.arange(9) % 2)
    monkeypatch.setattr("mple.machine.memory_bytes", lambda: 9 * 16 - 1)
    with pytest.raises(ValueError, match=r"x of .*, in Fortran's order: needs .* of memory.*; save it in C order"):
        open_source(NpzSource(path=tmp_path / "set.npz", most_train=2, most_test=1))
