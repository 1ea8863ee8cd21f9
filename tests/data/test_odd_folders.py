"""Folders as systems, network drives and careless hands leave them: no class, or refused by a sentence."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mple.data import DataError, Dataset, open_source
from mple.data.folder import FolderSource
from mple.data.settings import Validation

NFC, NFD = "H\xe4mangiom", "Ha\u0308mangiom"


def _picture(path: Path, value: int = 7) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((6, 5), value, np.uint8)
    pixels[-1, -1] = 255
    Image.fromarray(pixels).save(path, format="PNG")
    return path


def _classes(root: Path, *names: str) -> None:
    for name in names:
        for number in range(3):
            _picture(root / name / f"{number}.png", number)


def _open(path: Path, **settings: Any) -> Dataset:
    return open_source(FolderSource(path=path, **settings))


@pytest.mark.parametrize(
    "name",
    ["@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information", ".snapshot", "__MACOSX", "#recycle",
     ".Trash-1000", "@Recycle", "FOUND.000", "#snapshot", ".ipynb_checkpoints", "~snapshot"],
)  # fmt: skip
@pytest.mark.parametrize("place", ["", "train", "train/cat"])
def test_what_systems_leave_is_no_class(tmp_path: Path, name: str, place: str) -> None:
    roots = ("train", "test") if place else ("",)
    for root in roots:
        _classes(tmp_path / root, "cat", "dog")
    _picture(tmp_path / place / name / "0.png")
    dataset = _open(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert len(dataset.train) + len(dataset.test) == 6 * len(roots)


@pytest.mark.parametrize("name", ["._0.png", ".DS_Store", "Thumbs.db", "desktop.ini", "ehthumbs.db", "Icon\r"])
def test_what_desktops_leave_is_no_picture(tmp_path: Path, name: str) -> None:
    _classes(tmp_path, "cat", "dog")
    for place in ("", "cat"):
        (tmp_path / place / name).write_bytes(b"\0\5\26\7")
    dataset = _open(tmp_path)
    assert len(dataset.train) + len(dataset.test) == 6


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("Tumor", "tumor"), "'Tumor' and 'tumor' look alike"),
        (("a", "a "), "'a ' begins or ends with a blank"),
        (("a", "a\xa0"), r"'a\xa0' begins or ends with a blank"),
        ((NFC, NFD), r"'Ha\u0308mangiom' and 'H\xe4mangiom' are one name in two Unicode forms"),
        (("a b", "a  b"), "'a  b' and 'a b' look alike"),
        (("1", "01"), "'01' and '1' look alike"),
        (("stra\xdfe", "strasse"), r"'strasse' and 'stra\xdfe' look alike"),
        (("\uff21", "A"), r"'A' and '\uff21' look alike"),
        (("cat", "c\x07t"), r"'c\x07t' has a character that can't be seen"),
        (("cat", "c\u200bat"), r"'c\u200bat' has a character that can't be seen"),
        (("cat", "\u202etac"), r"'\u202etac' has a character that can't be seen"),
        (("cat", "dog\nmouse"), r"'dog\nmouse' has a character that can't be seen"),
        (("cat", os.fsdecode(b"d\xffg")), r"'d\udcffg' has a character that can't be seen or decoded"),
        (("cat", "NaN"), "'NaN' looks like a missing value"),
        (("cat", "x" * 201), "has 201 characters; at most 200"),
    ],
)
def test_names_that_differ_unseen_are_shown(tmp_path: Path, names: tuple[str, ...], said: str) -> None:
    _classes(tmp_path, *names)
    with pytest.raises(DataError) as caught:
        _open(tmp_path)
    assert said in str(caught.value)
    assert str(caught.value).isprintable()


def test_names_that_look_alike_are_classes_where_both_are_stated(tmp_path: Path) -> None:
    _classes(tmp_path, "A", "a")
    assert _open(tmp_path, classes=("a", "A")).classes == ("a", "A")


@pytest.mark.parametrize(("lies", "stated"), [(NFD, NFC), (NFC, NFD)])
def test_a_name_in_either_form_is_the_stated_class(tmp_path: Path, lies: str, stated: str) -> None:
    _classes(tmp_path, lies, "dog")
    dataset = _open(tmp_path, classes=(stated, "dog"))
    assert dataset.classes == (NFC, "dog")
    assert _open(tmp_path).classes == (NFC, "dog")[:: -1 if NFC > "dog" else 1]


def test_an_empty_folder_of_a_stated_class_is_one_in_either_form(tmp_path: Path) -> None:
    _classes(tmp_path, "cat", "dog")
    (tmp_path / NFC).mkdir()
    assert _open(tmp_path, classes=("cat", "dog", NFD)).classes == ("cat", "dog", NFC)


def test_an_empty_class_folder_is_refused_unless_stated(tmp_path: Path) -> None:
    _classes(tmp_path, "cat", "dog")
    (tmp_path / "mouse").mkdir()
    (tmp_path / "mouse" / ".DS_Store").touch()
    with pytest.raises(DataError, match=r"class folder 'mouse' in .* is empty; remove it, or name all `classes`"):
        _open(tmp_path)
    dataset = _open(tmp_path, classes=("cat", "dog", "mouse"))
    assert dataset.notes == ("no picture at all of class 'mouse'",)


def _split(root: Path, *splits: str) -> None:
    for split in splits:
        _classes(root / split, "cat", "dog")


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val", "VALIDATION"])
@pytest.mark.parametrize(
    ("validation", "train", "val"), [(Validation.VAL, 6, 6), (Validation.TRAIN, 12, 0), (Validation.IGNORED, 6, 0)]
)
def test_a_validation_split_is_one_by_any_name(
    tmp_path: Path, name: str, validation: Validation, train: int, val: int
) -> None:
    _split(tmp_path, "train", "test", name)
    dataset = _open(tmp_path, validation=validation)
    assert (dataset.classes, len(dataset.train), len(dataset.val), len(dataset.test)) == (("cat", "dog"), train, val, 6)


@pytest.mark.parametrize("names", [("Train", "Test"), ("training", "testing"), ("TRAIN", "test")])
def test_splits_are_so_in_capitals_and_longer_words(tmp_path: Path, names: tuple[str, ...]) -> None:
    _split(tmp_path, *names)
    assert _open(tmp_path).classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("splits", "text"),
    [
        (("train", "test", "val", "valid"), "val and .*valid are both the val split"),
        (("train", "Train", "test"), "Train and .*train are both the train split"),
        (("train", "test", "holdout"), "holdout is no split, beside test, train; move it away"),
        (("train", "valid"), "has train, valid; needs train and test"),
        (("Train",), "has Train; needs train and test"),
    ],
)
def test_splits_that_are_doubtful_are_refused(tmp_path: Path, splits: tuple[str, ...], text: str) -> None:
    _split(tmp_path, *splits)
    with pytest.raises(DataError, match=text):
        _open(tmp_path)


def test_classes_may_be_called_as_splits_are(tmp_path: Path) -> None:
    _classes(tmp_path, "valid", "invalid")
    assert _open(tmp_path).classes == ("invalid", "valid")


@pytest.mark.parametrize("place", ["loose.png", "train/loose.JPG"])
def test_a_picture_outside_of_class_folders_is_named(tmp_path: Path, place: str) -> None:
    _split(tmp_path, "train", "test")
    _picture(tmp_path / place)
    (tmp_path / "README.txt").touch()
    with pytest.raises(DataError, match=r"loose\.\w+ lies in no class folder"):
        _open(tmp_path)


def test_a_class_in_the_test_split_alone_is_refused_unless_stated(tmp_path: Path) -> None:
    _split(tmp_path, "train", "test")
    _classes(tmp_path / "test", "mouse")
    with pytest.raises(DataError, match="class 'mouse' has test images and no training image; name all `classes`"):
        _open(tmp_path)
    assert _open(tmp_path, classes=("cat", "dog", "mouse")).notes == ("no training picture of class 'mouse'",)


def test_a_class_in_the_train_split_alone_is_said(tmp_path: Path) -> None:
    _split(tmp_path, "train", "test")
    _classes(tmp_path / "train", "mouse")
    assert _open(tmp_path).notes == ("no test picture of class 'mouse'",)


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    _classes(tmp_path / "set", "cat", "dog")
    secret = _picture(tmp_path / "elsewhere" / "secret.png")
    (tmp_path / "set/cat/z.png").symlink_to(secret)
    with pytest.raises(DataError, match=r"z\.png is a link out of .*set, to .*secret\.png; copy the file"):
        _open(tmp_path / "set")
    (tmp_path / "set/cat/z.png").unlink()
    (tmp_path / "set/mouse").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"secret\.png is a link out of"):
        _open(tmp_path / "set")


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    _classes(tmp_path / "set", "cat", "dog")
    (tmp_path / "link").symlink_to(tmp_path / "set")
    assert len(_open(tmp_path / "link").classes) == 2


@pytest.mark.parametrize("make", [os.link, os.symlink])
def test_two_names_of_one_file_are_refused(tmp_path: Path, make: Any) -> None:
    _split(tmp_path, "train", "test")
    make(tmp_path / "train/cat/0.png", tmp_path / "test/dog/again.png")
    with pytest.raises(DataError, match=r"0\.png and .*again\.png are one file under two names"):
        _open(tmp_path)


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    _classes(tmp_path, "cat", "dog")
    (tmp_path / "cat/z.png").symlink_to(tmp_path / "none.png")
    (tmp_path / "dog/loop.png").symlink_to("loop.png")
    with pytest.raises(DataError, match=r"z\.png is a link that leads nowhere"):
        _open(tmp_path)


@pytest.mark.parametrize("name", [os.fsdecode(b"p\xff.png"), "p\x1b[2J.png"])
def test_file_names_that_can_not_be_printed_are_refused(tmp_path: Path, name: str) -> None:
    _classes(tmp_path, "cat", "dog")
    _picture(tmp_path / "cat" / name)
    with pytest.raises(DataError, match="can't be seen or decoded") as caught:
        _open(tmp_path)
    assert str(caught.value).isprintable()
