"""Image folders: layouts, channels, sizes, and files that don't belong there."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mple.data import DataError, Dataset, Partition, PartitionKind, open_source
from mple.data.folder import FolderSource
from mple.data.picture_sets import Channels
from mple.data.settings import Validation

DICE = np.random.default_rng(8)


def _grey(height: int = 6, width: int = 5) -> np.ndarray:
    return DICE.integers(0, 256, (height, width), dtype=np.uint8)


def _save(path: Path, pixels: np.ndarray, **options: Any) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def _open(path: Path, **settings: Any) -> Dataset:
    return open_source(FolderSource(path=path, **settings))


def _split_folder(root: Path) -> dict[str, np.ndarray]:
    names = ("train/cat/a.png", "train/cat/b.png", "train/dog/a.png", "test/cat/c.png", "test/dog/c.png")
    return {name: _save(root / name, _grey()) for name in names}


def test_train_and_test_folders(tmp_path: Path) -> None:
    saved = _split_folder(tmp_path)
    dataset = _open(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert (dataset.train.labels.tolist(), dataset.test.labels.tolist()) == ([0, 0, 1], [0, 1])
    np.testing.assert_array_equal(dataset.train.pixels_NCHW[1, 0], saved["train/cat/b.png"])
    np.testing.assert_array_equal(dataset.test.pixels_NCHW[1, 0], saved["test/dog/c.png"])


@pytest.mark.parametrize(
    ("validation", "counts"), [(Validation.VAL, (3, 1)), (Validation.TRAIN, (4, 0)), (Validation.IGNORED, (3, 0))]
)
def test_a_val_folder_validates_or_is_trained_on_or_left_out(
    tmp_path: Path, validation: Validation, counts: tuple[int, int]
) -> None:
    _split_folder(tmp_path)
    _save(tmp_path / "val/dog/v.png", picture := _grey())
    dataset = _open(tmp_path, validation=validation)
    assert (len(dataset.train), len(dataset.val)) == counts
    last = dataset.train if validation is Validation.TRAIN else dataset.val
    if validation is not Validation.IGNORED:
        np.testing.assert_array_equal(last.pixels_NCHW[-1, 0], picture)


@pytest.mark.parametrize("lonely", ["train", "test", "val"])
def test_half_a_split_is_refused(tmp_path: Path, lonely: str) -> None:
    _save(tmp_path / lonely / "cat/a.png", _grey())
    with pytest.raises(DataError, match="needs train and test"):
        _open(tmp_path)


def test_one_root_is_split_by_class_share_and_seed(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for number in range(10):
            _save(tmp_path / name / f"{number}.png", _grey())
    first, again, other = (_open(tmp_path, test_share=0.3, seed=seed) for seed in (1, 1, 2))
    assert np.bincount(first.test.labels).tolist() == [3, 3]
    assert np.bincount(first.train.labels).tolist() == [7, 7]
    np.testing.assert_array_equal(first.test.pixels_NCHW, again.test.pixels_NCHW)
    assert (first.test.pixels_NCHW != other.test.pixels_NCHW).any()


def test_no_test_share_leaves_an_empty_test_split_of_the_same_shape(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        _save(tmp_path / name / "a.png", _grey())
    dataset = _open(tmp_path, test_share=0.0)
    assert (len(dataset.train), len(dataset.test)) == (2, 0)
    assert dataset.test.shape == dataset.train.shape


def test_named_classes_set_the_order_and_may_lack_a_folder(tmp_path: Path) -> None:
    _split_folder(tmp_path)
    dataset = _open(tmp_path, classes=("dog", "horse", "cat"))
    assert dataset.classes == ("dog", "horse", "cat")
    assert sorted(dataset.train.labels.tolist()) == [0, 2, 2]


def test_a_folder_that_is_no_named_class_is_an_error(tmp_path: Path) -> None:
    _split_folder(tmp_path)
    with pytest.raises(DataError, match=r"'dog' is not one of classes = \['cat', 'horse'\]"):
        _open(tmp_path, classes=("cat", "horse"))


def test_auto_is_grey_only_if_all_are(tmp_path: Path) -> None:
    _split_folder(tmp_path)
    assert _open(tmp_path).train.shape.channels == 1
    colour = _save(tmp_path / "train/dog/z.png", DICE.integers(0, 256, (6, 5, 3), dtype=np.uint8))
    dataset = _open(tmp_path)
    assert dataset.train.shape.channels == 3
    np.testing.assert_array_equal(dataset.train.pixels_NCHW[-1], colour.transpose(2, 0, 1))
    np.testing.assert_array_equal(dataset.train.pixels_NCHW[0, 0], dataset.train.pixels_NCHW[0, 2])


@pytest.mark.parametrize(("channels", "count"), [(Channels.GREY, 1), (Channels.RGB, 3)])
def test_channels_can_be_stated(tmp_path: Path, channels: Channels, count: int) -> None:
    _split_folder(tmp_path)
    _save(tmp_path / "train/dog/z.png", DICE.integers(0, 256, (6, 5, 3), dtype=np.uint8))
    assert _open(tmp_path, channels=channels).train.shape.channels == count


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    _split_folder(tmp_path)
    deep = np.linspace(0, 65535, 30).astype(np.uint16).reshape(6, 5)
    _save(tmp_path / "train/cat/a.png", deep)
    pixels = _open(tmp_path).train.pixels_NCHW[0, 0]
    np.testing.assert_array_equal(pixels, np.round(deep / 257).astype(np.uint8))


def test_sizes_that_differ_need_side_px(tmp_path: Path) -> None:
    _split_folder(tmp_path)
    _save(tmp_path / "test/dog/z.png", _grey(9, 8))
    with pytest.raises(DataError, match=r"pictures differ in size: .*a\.png is 5x6, .*z\.png is 8x9; set side_px"):
        _open(tmp_path)
    dataset = _open(tmp_path, side_px=4)
    assert (dataset.train.shape.height, dataset.train.shape.width) == (4, 4)


def test_shrinking_is_antialiased(tmp_path: Path) -> None:
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    for name in ("cat", "dog"):
        _save(tmp_path / name / "a.png", board)
    pixels = _open(tmp_path, side_px=8, test_share=0.0).train.pixels_NCHW
    assert pixels.min() > 110
    assert pixels.max() < 145


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    _split_folder(tmp_path)
    for name in (".DS_Store", "Thumbs.db"):
        (tmp_path / "train/cat" / name).write_bytes(b"x")
    (tmp_path / "train/.cache").mkdir()
    assert len(_open(tmp_path).train) == 3


@pytest.mark.parametrize("stray", ["notes.txt", "scan.dcm", "deeper/"])
def test_stray_files_are_named_not_skipped(tmp_path: Path, stray: str) -> None:
    _split_folder(tmp_path)
    place = tmp_path / "train/cat" / stray
    place.mkdir() if stray.endswith("/") else place.write_bytes(b"x")
    with pytest.raises(DataError, match=f"{place.name} is no picture file"):
        _open(tmp_path)


def _huge_png() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no picture",
        b"\x89PNG\r\n\x1a\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 6\n%%EndComments\nshowpage\n",
        _huge_png(),
    ],
    ids=["empty", "text", "cut", "postscript", "huge"],
)
def test_bad_pictures_are_refused_by_name(tmp_path: Path, content: bytes) -> None:
    _split_folder(tmp_path)
    (tmp_path / "train/cat/bad.png").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.png"):
        _open(tmp_path)


def test_a_picture_cut_in_its_pixels_is_refused_by_name(tmp_path: Path) -> None:
    _split_folder(tmp_path)
    path = tmp_path / "train/cat/bad.png"
    _save(path, _grey(60, 50))
    path.write_bytes(path.read_bytes()[:-1500])
    with pytest.raises(DataError, match=r"bad\.png can't be read"):
        _open(tmp_path, side_px=4)


def test_several_frames_are_refused(tmp_path: Path) -> None:
    _split_folder(tmp_path)
    frames = [Image.fromarray(_grey()) for _ in range(2)]
    frames[0].save(tmp_path / "train/cat/many.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"many\.tif holds several frames"):
        _open(tmp_path)


def test_float_pictures_without_white_are_refused(tmp_path: Path) -> None:
    _split_folder(tmp_path)
    _save(tmp_path / "train/cat/float.tif", _grey().astype(np.float32))
    with pytest.raises(DataError, match=r"float\.tif has float.* set white in"):
        _open(tmp_path)


def test_most_bytes_bounds_single_pictures_and_all(tmp_path: Path) -> None:
    _split_folder(tmp_path)
    with pytest.raises(DataError, match="5x6, above most_bytes = 89"):
        _open(tmp_path, most_bytes=89)
    with pytest.raises(DataError, match="take 150 bytes, above most_bytes = 149"):
        _open(tmp_path, most_bytes=149)


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image folder at"):
        _open(tmp_path / "none")
    with pytest.raises(DataError, match="class folders"):
        _open(tmp_path)
    with pytest.raises(DataError, match="no training picture"):
        _open(tmp_path, classes=("a", "b"))


def test_only_pictures_of_the_part_are_decoded(tmp_path: Path) -> None:
    _split_folder(tmp_path)
    path = _save_broken_after_header(tmp_path / "train/cat/b.png")
    lists = tmp_path / "lists.json"
    lists.write_text('[{"train": [0, 2]}]')
    dataset = _open(tmp_path, partition=Partition(kind=PartitionKind.LIST, file=lists))
    assert dataset.train.labels.tolist() == [0, 1]
    assert path.exists()


def _save_broken_after_header(path: Path) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"IDAT") + 8])
    return path
