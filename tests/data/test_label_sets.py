"""Sets whose pictures have several labels: tables, archives, folders and DICOM, and how they are dealt out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mple.data import DataError, Dataset, NpzSource, open_source
from mple.data.dicom import DicomSource
from mple.data.folder import FolderSource
from mple.data.images import UNKNOWN
from mple.data.label_table import EmptyLabels, LabelTable, read_label_table
from mple.data.partitions import Partition, PartitionKind, draw_owners, hold_out, strata
from mple.data.patients import Patients
from mple.model.settings import TaskKind
from tests.support.dicom_files import write_dicom

DICE = np.random.default_rng(4)


def table(folder: Path, content: str, *stated: str, empty: EmptyLabels = EmptyLabels.UNKNOWN) -> LabelTable:
    path = folder / "labels.csv"
    path.write_text(content)
    return read_label_table(path, stated, empty)


def test_a_table_has_a_column_for_each_label(tmp_path: Path) -> None:
    """As CheXpert's: 1 there, 0 absent, -1 uncertain; what is empty is unknown, or absent where the settings say so."""
    text = "file,oedema,patient,mass\na.png,1.0,P1,\nb.png,-1.0,P2,0\nc.png,,P1,1\n"
    found = table(tmp_path, text)
    assert (found.labels, found.passed_over) == (("oedema", "mass"), ())
    assert [row.labels for row in found.rows] == [(1, UNKNOWN), (UNKNOWN, 0), (UNKNOWN, 1)]
    assert [(row.file, row.patient, row.label) for row in found.rows][1] == ("b.png", "P2", "")
    absent = table(tmp_path, text, empty=EmptyLabels.ABSENT)
    assert [row.labels for row in absent.rows] == [(1, 0), (UNKNOWN, 0), (0, 1)]


def test_stated_labels_choose_their_columns_and_the_others_are_said(tmp_path: Path) -> None:
    text = "file,Sex,Age,oedema,Frontal/Lateral,mass,split\na.png,Female,68,1,Frontal,0,train\n"
    found = table(tmp_path, text, "mass", "oedema")
    assert (found.labels, found.passed_over) == (("mass", "oedema"), ("Sex", "Age", "Frontal/Lateral"))
    assert (found.rows[0].labels, found.rows[0].split) == ((0, 1), "train")


@pytest.mark.parametrize(
    ("content", "stated", "text"),
    [
        ("file,oedema,mass\na,1,2\n", (), "line 2: mass is '2'; a label is 1"),
        ("file,oedema,mass\na,1,0.5\n", (), "mass is '0.5'"),
        ("file,oedema,mass\na,yes,0\n", (), "oedema is 'yes'"),
        ("file,oedema,mass\na,nan,0\n", (), "oedema is 'nan'.*or empty"),
        ("file,Sex,oedema,mass\na,Female,1,0\n", (), "Sex is 'Female'.*Name the columns of labels by `classes`"),
        ("file,class\na,sick\n", (), r"columns of labels: \['class'\]; needs two"),
        ("file,kind,more\na,sick,1\n", (), "the class of each file goes into a column label"),
        ("file,oedema\na,1\n", (), r"needs two. One that is there or not makes two classes"),
        ("file,Oedema,oedema\na,1,1\n", (), "'Oedema' and 'oedema' look alike"),
        ("file,,oedema\na,1,1\n", (), "the name '' is empty"),
        ("file,oedema,mass,Split\na,1,0,train\n", (), "has the column 'Split'; write it 'split'"),
        ("file,oedema,mass,Label\na,1,0,x\n", ("oedema", "mass"), "has the column 'Label'; write it 'label'"),
        ("file,oedema,mass\na,1,0\n", ("oedema", "tumour"), r"has no column 'tumour', which classes = \['oedema'"),
        ("file,oedema,mass\n,1,0\n", (), "line 2: file is empty"),
        ("file,oedema,mass\na,1,0\n./a,1,0\n", (), "named twice, first in line 2"),
        ("file,split\na,train\n", (), "needs file,label"),
        ("file,oedema,label\na,1,sick\n", (), "the column 'oedema', which means nothing here"),
        ("file,oedema,mass\n", (), "has no row below its header"),
    ],
)
def test_tables_of_labels_that_are_doubtful_are_refused(
    tmp_path: Path, content: str, stated: tuple[str, ...], text: str
) -> None:
    with pytest.raises(DataError, match=text) as caught:
        table(tmp_path, content, *stated)
    assert str(caught.value).isprintable()


def pictures(folder: Path, count: int) -> None:
    for number in range(count):
        Image.fromarray(np.full((4, 4), 10 * number, np.uint8)).save(folder / f"{number}.png")


def from_folder(folder: Path, text: str, **settings: Any) -> Dataset:
    (folder / "labels.csv").write_text(text)
    return open_source(FolderSource(path=folder, label_file=folder / "labels.csv", **settings))


def test_a_folder_with_a_table_of_labels(tmp_path: Path) -> None:
    pictures(tmp_path, 4)
    text = "file,split,oedema,mass\n3.png,test,0,1\n1.png,train,1,\n0.png,train,-1,1\n2.png,val,0,0\n"
    dataset = from_folder(tmp_path, text)
    assert (dataset.task, dataset.classes) == (TaskKind.LABELS, ("oedema", "mass"))
    assert dataset.train.labels.tolist() == [[1, UNKNOWN], [UNKNOWN, 1]]
    assert dataset.train.pixels_NCHW[:, 0, 0, 0].tolist() == [10, 0]
    assert (dataset.val.labels.tolist(), dataset.test.labels.tolist()) == ([[0, 0]], [[0, 1]])
    chosen = from_folder(tmp_path, text.replace("oedema", "sex"), classes=("mass", "sex"))
    assert chosen.classes == ("mass", "sex")
    assert chosen.train.labels.tolist() == [[UNKNOWN, 1], [1, UNKNOWN]]


def test_columns_that_are_passed_over_are_said(tmp_path: Path) -> None:
    pictures(tmp_path, 2)
    text = "file,age,oedema,mass,split\n0.png,68,1,0,train\n1.png,7,0,1,test\n"
    notes = from_folder(tmp_path, text, classes=("oedema", "mass")).notes
    assert f"columns of {tmp_path / 'labels.csv'} that are passed over: age" in notes


def test_a_folder_with_a_table_of_classes(tmp_path: Path) -> None:
    pictures(tmp_path, 3)
    dataset = from_folder(tmp_path, "file,label,split\n0.png,well,train\n1.png,sick,train\n2.png,sick,test\n")
    assert (dataset.task, dataset.classes, dataset.train.labels.tolist()) == (
        TaskKind.CLASSES,
        ("sick", "well"),
        [1, 0],
    )


def test_settings_that_would_change_nothing_are_refused(tmp_path: Path) -> None:
    pictures(tmp_path, 2)
    with pytest.raises(DataError, match='empty_labels = "absent" is for tables without the column label'):
        from_folder(tmp_path, "file,label\n0.png,a\n1.png,b\n", empty_labels=EmptyLabels.ABSENT)
    with pytest.raises(ValueError, match='patients = "folder" is for class folders'):
        FolderSource(path=tmp_path, label_file=tmp_path / "labels.csv", patients=Patients.FOLDER)
    with pytest.raises(ValueError, match='empty_labels = "absent" is for a table of labels'):
        FolderSource(path=tmp_path, empty_labels=EmptyLabels.ABSENT)


def archive(folder: Path, labels: Any, **more: Any) -> Path:
    images = DICE.integers(0, 256, (len(labels), 5, 4), dtype=np.uint8)
    np.savez(folder / "set.npz", x_train=images, y_train=labels, x_test=images[:2], y_test=labels[:2], **more)
    return folder / "set.npz"


def test_an_archive_has_a_row_of_labels_for_each_image(tmp_path: Path) -> None:
    """As MedMNIST's chest set: uint8 (n, 14); here with unknown ones. One column alone stays the class."""
    labels = np.array([[1, 0, 1], [0, -1, 1], [0, 0, 0], [-1, 1, 0]], np.int8)
    dataset = open_source(NpzSource(path=archive(tmp_path, labels)))
    assert (dataset.task, dataset.classes) == (TaskKind.LABELS, ("0", "1", "2"))
    assert dataset.train.labels.tolist() == labels.tolist()
    assert dataset.test.labels.tolist() == labels[:2].tolist()
    assert open_source(NpzSource(path=tmp_path / "set.npz", classes=("a", "b", "c"))).classes == ("a", "b", "c")
    with pytest.raises(DataError, match="3 labels for each image, 2 names"):
        open_source(NpzSource(path=tmp_path / "set.npz", classes=("a", "b")))
    for odd in (2, -2):
        with pytest.raises(DataError, match=f"{odd} among the labels; a label is 1"):
            open_source(NpzSource(path=archive(tmp_path, np.where(labels == 0, odd, labels))))
    one = open_source(NpzSource(path=archive(tmp_path, np.array([[1], [0], [1], [0]], np.uint8))))
    assert (one.task, one.train.labels.tolist()) == (TaskKind.CLASSES, [1, 0, 1, 0])


def test_what_is_odd_about_labels_is_said(tmp_path: Path) -> None:
    labels = np.array([[1, 0, -1, 1], [1, 0, -1, 0], [1, 0, -1, 0], [-1, -1, -1, -1]], np.int8)
    notes = open_source(NpzSource(path=archive(tmp_path, labels))).notes
    for text in (
        "unknown of every training picture: label '2'",
        "no training picture has: label '1'",
        "every training picture that is known has: label '0'",
        "training pictures without any known label: 1 of 4; they teach no label",
        "every test picture that is known has: label '0'",
    ):
        assert text in notes
    hot = open_source(NpzSource(path=archive(tmp_path, np.eye(4, dtype=np.uint8)))).notes
    assert any("each training picture has exactly one label" in note for note in hot)


def test_dicom_files_with_a_table_of_labels(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    for name in ("a", "b", "c"):
        write_dicom(tmp_path / f"{name}.dcm", np.full((4, 4), 7, np.uint8))
    (tmp_path / "labels.csv").write_text("file,oedema,mass\na.dcm,1,0\nb.dcm,,1\nc.dcm,0,-1\n")
    dataset = open_source(DicomSource(path=tmp_path, test_share=0.0, empty_labels=EmptyLabels.ABSENT))
    assert dataset.train.labels.tolist() == [[1, 0], [0, 1], [0, UNKNOWN]]


def test_pictures_are_dealt_out_by_their_rarest_label() -> None:
    """By hand: of four pictures that have label 0, three have label 1 and one label 2."""
    labels = np.array([[1, 0, 0], [1, 1, 0], [1, 1, -1], [1, 1, 1], [0, 0, 0], [-1, 0, 0]])
    assert strata([labels])[0].tolist() == [0, 1, 1, 2, 3, 3]
    train, test = strata([labels[:2], labels[2:]])
    assert (train.tolist(), test.tolist()) == ([0, 1], [1, 2, 3, 3])
    assert [one.tolist() for one in strata([labels, labels[:0]])] == [[0, 1, 1, 2, 3, 3], []]


def test_a_rare_label_comes_to_training_and_test() -> None:
    """Ten of 1,000 pictures have the rare label: a fifth of them is held out, whatever the seed."""
    labels = np.zeros((1000, 2), np.int64)
    labels[:10, 1] = 1
    labels[::2, 0] = 1
    for seed in range(5):
        held = hold_out(labels, 0.2, seed)
        assert labels[held].sum(axis=0).tolist() == [99 + labels[:10][held[:10], 0].sum(), 2]
        assert held.sum() == 200
    patients = np.arange(1000) // 2
    held = hold_out(labels, 0.2, 1, patients)
    assert 0 < labels[held, 1].sum() < 10
    assert len(np.intersect1d(patients[held], patients[~held])) == 0


def test_a_skewed_deal_of_labels_leaves_nothing_out() -> None:
    labels = DICE.integers(-1, 2, (60, 3))
    partition = Partition(kind=PartitionKind.DIRICHLET, parts=3, alpha=0.3)
    train, test = draw_owners(partition, (labels, labels[:0]), 3)
    assert sorted(set(train.tolist())) == [0, 1, 2]
    assert (len(train), len(test)) == (60, 0)
    kept, _ = draw_owners(partition, (labels, labels[:0]), 3, (np.arange(60) // 2, np.empty(0, np.int64)))
    assert (kept[::2] == kept[1::2]).all()
