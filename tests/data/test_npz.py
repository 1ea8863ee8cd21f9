"""MedMNIST-like archives, and hostile ones."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mple.data import DataError, Dataset, DataSource, NpzSource, open_source
from mple.data.settings import Validation
from mple.plan.reader import settings_from

DICE = np.random.default_rng(3)
SHAPE = (6, 5)


def _medmnist(channels: int | None = None, **replaced: Any) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for split, count in (("train", 12), ("val", 4), ("test", 5)):
        shape = (count, *SHAPE) if channels is None else (count, *SHAPE, channels)
        arrays[f"{split}_images"] = DICE.integers(0, 256, shape, dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % 3).astype(np.uint8).reshape(count, 1)
    return {name: array for name, array in (arrays | replaced).items() if array is not None}


def _saved(folder: Path, arrays: dict[str, Any], *, compressed: bool = True) -> Path:
    path = folder / "set.npz"
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


def _open(path: Path, **settings: Any) -> Dataset:
    return open_source(NpzSource(path=path, **settings))


@pytest.mark.parametrize("channels", [None, 1, 3, 4])
@pytest.mark.parametrize("compressed", [True, False])
def test_pixels_come_channel_first(tmp_path: Path, channels: int | None, compressed: bool) -> None:
    arrays = _medmnist(channels)
    dataset = _open(_saved(tmp_path, arrays, compressed=compressed), validation=Validation.IGNORED)
    expected = arrays["train_images"].reshape(12, *SHAPE, channels or 1).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(dataset.train.pixels_NCHW, expected)
    assert dataset.train.labels.tolist() == [0, 1, 2] * 4
    assert dataset.train.pixels_NCHW.flags.c_contiguous
    assert dataset.classes == ("0", "1", "2")
    assert len(dataset.test) == 5


def test_validation_images_are_appended_to_training_if_asked(tmp_path: Path) -> None:
    arrays = _medmnist()
    dataset = _open(_saved(tmp_path, arrays), validation=Validation.TRAIN)
    assert not len(dataset.val)
    both = np.concatenate([arrays["train_images"], arrays["val_images"]])
    np.testing.assert_array_equal(dataset.train.pixels_NCHW[:, 0], both)
    assert dataset.train.labels.tolist() == [0, 1, 2] * 4 + [0, 1, 2, 0]


def test_a_part_is_the_same_images_as_in_the_whole(tmp_path: Path) -> None:
    path = _saved(tmp_path, _medmnist(3))
    whole = _open(path)
    seen = []
    for part in range(3):
        partition = {"kind": "iid", "parts": 3, "part": part, "seed": 2}
        seen.append(_open_with_partition(path, partition))
    for split in ("train", "val", "test"):
        pixels = np.concatenate(
            [getattr(part, split).pixels_NCHW.reshape(-1, 3 * SHAPE[0] * SHAPE[1]) for part in seen]
        )
        expected = getattr(whole, split).pixels_NCHW.reshape(-1, 3 * SHAPE[0] * SHAPE[1])
        np.testing.assert_array_equal(pixels[np.lexsort(pixels.T)], expected[np.lexsort(expected.T)])


def _open_with_partition(path: Path, partition: dict[str, Any]) -> Dataset:
    raw = {"kind": "npz", "path": str(path), "partition": partition}
    return open_source(settings_from(DataSource, raw))


def test_rows_are_right_across_the_blocks_they_are_read_in(tmp_path: Path) -> None:
    images = DICE.integers(0, 256, (50, 700, 700), dtype=np.uint8)  # 24.5 MB, some blocks
    arrays = {"x_train": images, "y_train": np.arange(50) % 2, "x_test": images[:2], "y_test": np.array([0, 1])}
    path = _saved(tmp_path, arrays, compressed=False)
    lists = tmp_path / "lists.npz"
    np.savez(lists, train_0=np.array([49, 0, 16, 17, 33]))
    part = _open_with_partition(path, {"kind": "list", "file": str(lists)})
    np.testing.assert_array_equal(part.train.pixels_NCHW[:, 0], images[[0, 16, 17, 33, 49]])


def test_keys_x_and_y_serve_too(tmp_path: Path) -> None:
    images = DICE.integers(0, 256, (4, *SHAPE), dtype=np.uint8)
    arrays = {"x_train": images, "y_train": np.array([0, 1, 0, 1]), "x_test": images[:2], "y_test": np.array([1, 0])}
    dataset = _open(_saved(tmp_path, arrays))
    assert (len(dataset.train), len(dataset.test), dataset.name) == (4, 2, "set")


def test_fortran_order_and_foreign_byte_order_are_read_right(tmp_path: Path) -> None:
    arrays = _medmnist(3)
    kept = arrays["train_images"].copy()
    arrays["train_images"] = np.asfortranarray(arrays["train_images"])
    arrays["train_labels"] = arrays["train_labels"].astype(">i4")
    dataset = _open(_saved(tmp_path, arrays), validation=Validation.IGNORED)
    np.testing.assert_array_equal(dataset.train.pixels_NCHW, kept.transpose(0, 3, 1, 2))
    assert dataset.train.labels.tolist() == [0, 1, 2] * 4


def test_classes_can_be_named_and_more_than_occur(tmp_path: Path) -> None:
    assert _open(_saved(tmp_path, _medmnist()), classes=("a", "b", "c", "d")).classes == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("replaced", "text"),
    [
        (
            {"train_images": np.zeros((12, *SHAPE), np.float32)},
            "train_images are float32; set white in .data.*or save them as uint8",
        ),
        ({"train_images": np.zeros((12, 5), np.uint8)}, "needs .n, H, W. or"),
        ({"train_images": np.zeros((12, 5, 5, 5), np.uint8)}, "channels, 1 to 4"),
        ({"test_images": np.zeros((5, 9, 9), np.uint8)}, r"test_images are \(9, 9\)"),
        ({"train_labels": np.zeros(11, np.int64)}, r"train_labels have the shape \(11,\) for 12 images"),
        ({"train_labels": np.zeros((12, 1, 14), np.int64)}, r"have the shape \(12, 1, 14\) for 12 images"),
        ({"train_labels": np.zeros((12, 501), np.int64)}, r"train_labels have the shape \(12, 501\)"),
        ({"train_labels": np.zeros((11, 14), np.int64)}, r"train_labels have the shape \(11, 14\) for 12 images"),
        ({"train_labels": np.zeros((12, 14), np.int64)}, r"val_images have labels of shape \(4,\), train_images have"),
        ({"train_labels": np.zeros(12)}, "train_labels are float64"),
        ({"train_labels": np.full(12, -1)}, "label -1 is out of range"),
        ({"train_labels": np.full(12, 2**63, np.uint64)}, "out of range"),
        ({"test_labels": None}, "needs train_images train_labels test_images test_labels, or x_train"),
    ],
)
def test_other_arrays_are_refused_by_name(tmp_path: Path, replaced: dict[str, Any], text: str) -> None:
    with pytest.raises(DataError, match=text) as caught:
        _open(_saved(tmp_path, _medmnist(**replaced)))
    assert "set.npz" in str(caught.value)


def test_a_label_above_the_named_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="label 2 is out of range; there are 2 classes"):
        _open(_saved(tmp_path, _medmnist()), classes=("a", "b"))


class _Trap:
    """Unpickling it would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self._path,))


@pytest.mark.parametrize("name", ["train_images", "test_labels"])
def test_a_pickle_is_refused_and_never_loaded(tmp_path: Path, name: str) -> None:
    sprung = tmp_path / "sprung"
    path = _saved(tmp_path, _medmnist(**{name: np.array([_Trap(sprung)], dtype=object)}))
    with pytest.raises(DataError, match=f"{name} is a pickled array, which could run code"):
        _open(path)
    assert not sprung.exists()


def _with_member(folder: Path, name: str, content: bytes) -> Path:
    path = _saved(folder, _medmnist(**{name: None}))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.npy", content)
    return path


def _npy(shape: tuple[int, ...], body: bytes) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue() + body


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((2**40, 1024, 1024), "says it unpacks to .* at most"),
        ((12, 2**31, 2**31), "says it unpacks to"),
        ((13, *SHAPE), "damaged: train_images declares 390 bytes and has 360"),
        ((11, *SHAPE), "damaged"),
        ((-12, *SHAPE), r"damaged: train_images declares the shape \(-12"),
    ],
)
def test_a_header_that_lies_about_size_is_refused(tmp_path: Path, shape: tuple[int, ...], text: str) -> None:
    with pytest.raises(DataError, match=text):
        _open(_with_member(tmp_path, "train_images", _npy(shape, bytes(360))))


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    count = 200_000  # 6 MB of zeros, a few kB in the file
    path = _with_member(tmp_path, "train_images", _npy((count, *SHAPE), bytes(count * 30)))
    assert path.stat().st_size < 50_000
    with pytest.raises(DataError, match="most_bytes"):
        _open(path, most_bytes=1_000_000)


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x03\x00", _npy((12, *SHAPE), bytes(360))[:40]])
def test_members_that_are_no_arrays_are_refused_by_file(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"set\.npz"):
        _open(_with_member(tmp_path, "train_images", content))


def test_a_flipped_byte_anywhere_in_the_pixels_is_noticed(tmp_path: Path) -> None:
    arrays = _medmnist()
    path = _saved(tmp_path, arrays, compressed=False)
    content = bytearray(path.read_bytes())
    where = content.index(arrays["train_images"].tobytes()) + 359
    content[where] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"set\.npz is damaged: Bad CRC-32"):
        _open(path, most_train=1)


def test_a_truncated_file_is_refused_by_name(tmp_path: Path) -> None:
    path = _saved(tmp_path, _medmnist())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"set\.npz is damaged"):
        _open(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data file at .*none\.npz"):
        _open(tmp_path / "none.npz")


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i2", "<i4", "<f4", ">f8", "<f2"])
def test_other_numbers_are_scaled_by_white(tmp_path: Path, dtype: str) -> None:
    values = np.array([0, 2, 512, 1023]).reshape(1, 2, 2).astype(dtype)
    arrays = {"x_train": values, "y_train": [0], "x_test": values[:, ::-1], "y_test": [1]}
    dataset = _open(_saved(tmp_path, arrays), white=1023.0, classes=("a", "b"))
    # 255 / 1023 a step: 0, 0.499, 127.6, 255
    assert dataset.train.pixels_NCHW.tolist() == [[[[0, 0], [128, 255]]]]
    assert dataset.test.pixels_NCHW.tolist() == [[[[128, 255], [0, 0]]]]


def test_floats_from_0_to_1_and_small_bytes(tmp_path: Path) -> None:
    for values, white in ((np.array([0, 0.25, 1.0], np.float32), 1.0), (np.array([0, 5, 15], np.uint8), 15.0)):
        whole = np.tile(values.reshape(1, 1, 3), (2, 1, 1))
        path = _saved(tmp_path, {"x_train": whole, "y_train": [0, 1], "x_test": whole, "y_test": [0, 1]})
        middle = {1.0: 64, 15.0: 85}[white]
        assert _open(path, white=white).train.pixels_NCHW[1, 0, 0].tolist() == [0, middle, 255]


@pytest.mark.parametrize(
    ("images", "white", "text"),
    [
        (np.full((12, *SHAPE), 4096, np.uint16), 4095, "train_images holds the value 4096, above its white level 4095"),
        (np.full((12, *SHAPE), -1, np.int16), 4095, "train_images holds the value -1"),
        (np.full((12, *SHAPE), np.nan, np.float32), 1, "train_images holds the value nan"),
        (np.zeros((12, *SHAPE), np.uint8), 256, "train_images are uint8, so that white = 256 can't be meant"),
        (np.zeros((12, *SHAPE), np.int16), 32768, "train_images are int16, so that white = 32768 can't be meant"),
        (np.zeros((12, *SHAPE), np.bool_), 1, "train_images are bool; set white"),
        (np.zeros((12, *SHAPE), np.complex64), 1, "train_images are complex64; set white"),
    ],
)
def test_values_beyond_white_are_refused_by_name(tmp_path: Path, images: Any, white: float, text: str) -> None:
    path = _saved(tmp_path, _medmnist(train_images=images, test_images=images[:5]))
    with pytest.raises(DataError, match=text) as caught:
        _open(path, white=white, validation=Validation.IGNORED)
    assert "set.npz" in str(caught.value)


def test_white_of_a_configuration_may_be_a_whole_number(tmp_path: Path) -> None:
    values = np.full((4, 2, 2), 4095, np.uint16)
    path = _saved(tmp_path, {"x_train": values, "y_train": [0, 1, 0, 1], "x_test": values, "y_test": [0, 1, 0, 1]})
    raw = {"kind": "npz", "path": str(path), "white": 4095}
    assert open_source(settings_from(DataSource, raw)).train.pixels_NCHW.min() == 255
