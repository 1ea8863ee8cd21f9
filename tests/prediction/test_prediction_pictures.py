"""Pictures of a prediction are read as the site's training pictures are: the same white, turns, refusals."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mple.data import DataError, DataSource, NpzSource, open_source
from mple.data.folder import FolderSource
from mple.model.settings import TaskKind
from mple.morph import ImageShape
from mple.prediction.pictures import listed_files, picture_files
from tests.support.picture_bytes import exif_bytes, png_bytes, tiff_bytes

STORED = np.array([[0, 1024, 2048, 4095], [4095, 3000, 16, 8]], np.uint16)
RIGHT = np.floor(STORED / 4095 * 255 + 0.5)


def _class_folders(root: Path, content: bytes) -> Path:
    for name in ("sick", "well"):
        (root / name).mkdir(parents=True)
        (root / name / "x.png").write_bytes(content)
    return root


def _predicted(source: DataSource, *files: Path, height: int = 2, width: int = 4, **options: Any) -> np.ndarray:
    image = ImageShape(channels=1, height=height, width=width)
    return picture_files(source.reading(), files, image, resize=False, **options).read(slice(None))[:, 0]


def test_twelve_bits_in_sixteen_are_predicted_as_they_were_trained(tmp_path: Path) -> None:
    folder = _class_folders(tmp_path / "set", png_bytes(STORED))
    source = FolderSource(path=folder, white=4095, test_share=0.0)
    trained = open_source(source).train.pixels_NCHW[0, 0]
    (tmp_path / "x.tif").write_bytes(tiff_bytes(STORED, 1, ">"))
    for picture in _predicted(source, folder / "sick/x.png", tmp_path / "x.tif"):
        np.testing.assert_array_equal(picture, trained)
        np.testing.assert_array_equal(picture, RIGHT)


def test_the_white_of_an_archive_counts_for_files_too(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    arrays = np.stack([STORED] * 4)
    np.savez(path, x_train=arrays, y_train=[0, 1, 0, 1], x_test=arrays, y_test=[0, 1, 0, 1])
    source = NpzSource(path=path, white=4095)
    (tmp_path / "x.png").write_bytes(png_bytes(STORED))
    np.testing.assert_array_equal(_predicted(source, tmp_path / "x.png")[0], open_source(source).test.pixels_NCHW[0, 0])


def test_a_file_that_cannot_hold_the_white_is_refused_before_any_is_read(tmp_path: Path) -> None:
    folder = _class_folders(tmp_path / "set", png_bytes(STORED))
    (tmp_path / "x.png").write_bytes(png_bytes(STORED.astype(np.uint8)))
    with pytest.raises(DataError, match=r"x\.png holds values up to 255, so that white = 4095 can't be meant"):
        picture_files(
            FolderSource(path=folder, white=4095).reading(),
            [folder, tmp_path / "x.png"],
            ImageShape(channels=1, height=2, width=4),
            resize=False,
        )


def test_a_turned_picture_has_the_size_that_it_is_shown_with(tmp_path: Path) -> None:
    bytes_HW = (STORED // 16).astype(np.uint8)
    (tmp_path / "x.png").write_bytes(png_bytes(bytes_HW, behind=[(b"eXIf", exif_bytes(6))]))
    source = FolderSource(path=tmp_path)
    np.testing.assert_array_equal(_predicted(source, tmp_path / "x.png", height=4, width=2)[0], bytes_HW[::-1].T)
    with pytest.raises(DataError, match="is 1x4x2"):
        _predicted(source, tmp_path / "x.png")


def test_files_of_a_folder_that_are_no_pictures_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_bytes(STORED))
    shutil.copy(tmp_path / "a.png", tmp_path / "b.dcm")  # read by its content
    (tmp_path / "c.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    with pytest.raises(DataError, match=r"c\.jpg can't be read: it is HEIC; convert it: heif-convert c\.jpg c\.png"):
        _predicted(FolderSource(path=tmp_path), tmp_path)
    (tmp_path / "c.jpg").unlink()
    assert len(_predicted(FolderSource(path=tmp_path), tmp_path)) == 2


def test_a_table_of_labels_is_for_a_network_of_labels(tmp_path: Path) -> None:
    """Its columns may lie in another order, beside others; an empty cell is unknown."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(png_bytes(STORED))
    table, image = tmp_path / "list.csv", ImageShape(channels=1, height=2, width=4)
    reading = FolderSource(path=tmp_path).reading()
    table.write_text("file,mass,age,oedema\nb.png,,70,1\na.png,1,9,-1\n")
    found = listed_files(reading, table, ("oedema", "mass"), TaskKind.LABELS, image, resize=False)
    assert found.labels is not None
    assert found.labels.tolist() == [[1, -1], [-1, 1]]
    with pytest.raises(DataError, match=r"the network is for a task of classes; the table needs a column label"):
        listed_files(reading, table, ("oedema", "mass"), TaskKind.CLASSES, image, resize=False)
    table.write_text("file,label\nb.png,mass\n")
    with pytest.raises(DataError, match=r"for a task of labels; the table needs a column for each of oedema, mass"):
        listed_files(reading, table, ("oedema", "mass"), TaskKind.LABELS, image, resize=False)
