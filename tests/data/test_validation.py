"""Validation pictures: those of a set, and those that are taken from a site's training pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.slices import draw_slices, save_npz
from mple.data import DataError, Dataset, LabelledImages, NpzSource, Partition, PartitionKind, open_source
from mple.data.images import PatientSplit, repeated_images
from mple.data.index_lists import read_index_lists
from mple.data.partitions import draw_owners
from mple.data.settings import Validation
from tests.support.slices import patients_shown

SIDE_PX = 4


def _saved(path: Path, **numbers: list[int]) -> Path:
    """Splits of pictures of one level each, by which they are known again; labels are odd and even."""
    arrays: dict[str, Any] = {}
    for split, levels in numbers.items():
        arrays[f"x_{split}"] = np.asarray(levels, np.uint8)[:, None, None] * np.ones((1, SIDE_PX, SIDE_PX), np.uint8)
        arrays[f"y_{split}"] = np.asarray(levels) % 2
    np.savez(path / "set.npz", **arrays)
    return path / "set.npz"


def _levels(images: LabelledImages) -> list[int]:
    assert images.labels.tolist() == (images.pixels_NCHW[:, 0, 0, 0] % 2).tolist()
    return sorted(images.pixels_NCHW[:, 0, 0, 0].tolist())


def test_limits_hold_for_each_split(tmp_path: Path) -> None:
    path = _saved(tmp_path, train=list(range(10)), val=list(range(50, 60)), test=list(range(100, 110)))
    dataset = open_source(NpzSource(path=path, most_val=4))
    assert [len(split) for split in (dataset.train, dataset.val, dataset.test)] == [10, 4, 10]
    assert set(_levels(dataset.val)) <= set(range(50, 60))


@pytest.mark.parametrize("kind", [PartitionKind.IID, PartitionKind.DIRICHLET])
def test_validation_pictures_are_dealt_leaving_the_others(tmp_path: Path, kind: PartitionKind) -> None:
    numbers = {"train": list(range(40)), "test": list(range(100, 120))}
    dealt = []
    for val in (list(range(60, 80)), []):
        path = _saved(tmp_path, **numbers, **({"val": val} if val else {}))
        parts = [open_source(NpzSource(path=path, partition=Partition(kind=kind, parts=3, part=p))) for p in range(3)]
        dealt.append([(_levels(part.train), _levels(part.test)) for part in parts])
        assert sorted(level for part in parts for level in _levels(part.val)) == val
    assert dealt[0] == dealt[1]


@pytest.mark.parametrize("validation", list(Validation))
def test_a_share_of_training_pictures_validates_where_none_does(tmp_path: Path, validation: Validation) -> None:
    path = _saved(tmp_path, train=list(range(40)), val=[60, 61], test=[100, 101])
    dataset = open_source(NpzSource(path=path, validation=validation, validation_share=0.25))
    if validation is Validation.VAL:
        assert (_levels(dataset.train), _levels(dataset.val)) == (list(range(40)), [60, 61])
        return
    whole = list(range(40)) + ([60, 61] if validation is Validation.TRAIN else [])
    assert sorted(_levels(dataset.train) + _levels(dataset.val)) == whole
    assert np.bincount(dataset.val.labels).tolist() == [5, 5]  # 0.25 of 20 or 21 each
    assert _levels(dataset.test) == [100, 101]


def test_the_share_is_of_the_site_s_own_pictures(tmp_path: Path) -> None:
    path, seen = _saved(tmp_path, train=list(range(60)), test=[100, 101]), []
    for part in range(3):
        partition = Partition(kind=PartitionKind.IID, parts=3, part=part)
        dataset = open_source(NpzSource(path=path, partition=partition, validation_share=0.2, most_train=10))
        assert len(dataset.train) + len(dataset.val) == 10
        assert 1 <= len(dataset.val) <= 3
        seen += _levels(dataset.train) + _levels(dataset.val)
    assert len(set(seen)) == 30


def test_a_share_that_leaves_nothing_is_said(tmp_path: Path) -> None:
    path = _saved(tmp_path, train=[0, 1, 2], test=[100, 101])
    assert any(
        "validation_share = 0.1 of 3 training" in note
        for note in open_source(NpzSource(path=path, validation_share=0.1)).notes
    )


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_a_share_keeps_patients_together(tmp_path: Path, share: float, seed: int) -> None:
    slices = draw_slices(seed, SIDE_PX)
    save_npz(slices, tmp_path / "set.npz")
    dataset = open_source(NpzSource(path=tmp_path / "set.npz", validation_share=share, seed=seed))
    train, val, test = (patients_shown(slices, split) for split in (dataset.train, dataset.val, dataset.test))
    assert not train & val
    assert not train & test
    assert not val & test
    assert len(train | val | test) == 24
    assert val
    assert dataset.patients is PatientSplit.APART


@pytest.mark.parametrize(
    ("who", "status", "said"),
    [
        (
            {"train": "aabb", "val": "bc", "test": "de"},
            PatientSplit.SHARED,
            "training and in validation pictures: 1",
        ),
        ({"train": "aabb", "val": "cc", "test": "ae"}, PatientSplit.SHARED, "in training and in test pictures: 1"),
        ({"train": "aabb", "val": "cd", "test": "de"}, PatientSplit.APART, ""),
    ],
)
def test_patients_of_training_in_either_other_split_are_said(
    tmp_path: Path, who: dict[str, str], status: PatientSplit, said: str
) -> None:
    arrays: dict[str, Any] = {}
    for split, names in who.items():
        arrays |= {f"x_{split}": np.zeros((len(names), 4, 4), np.uint8), f"y_{split}": np.arange(len(names)) % 2}
        arrays[f"patient_{split}"] = list(names)
    np.savez(tmp_path / "set.npz", **arrays)
    dataset = open_source(NpzSource(path=tmp_path / "set.npz"))
    assert dataset.patients is status
    notes = [note for note in dataset.notes if note.startswith("patients")]
    assert (said in "".join(notes)) if said else not notes


@given(
    st.lists(st.integers(0, 5), min_size=9, max_size=30), st.lists(st.integers(0, 9), max_size=20), st.integers(0, 9)
)
def test_a_patient_of_three_splits_is_dealt_to_one_site(train: list[int], other: list[int], seed: int) -> None:
    train = [*range(3), *train]
    patients = [np.asarray(one, np.int64) for one in (train, other, other[::2])]
    labels = [one % 2 for one in patients]
    partition = Partition(kind=PartitionKind.IID, parts=3, seed=seed)
    owner_of: dict[int, int] = {}
    for of_split, owners in zip(patients, draw_owners(partition, labels, 2, patients), strict=True):
        for patient, owner in zip(of_split.tolist(), owners.tolist(), strict=True):
            assert owner_of.setdefault(patient, owner) == owner


def test_lists_name_validation_pictures(tmp_path: Path) -> None:
    (tmp_path / "parts.csv").write_text("part,split,index\n0,train,0\n0,val,2\n1,train,1\n1,val,0\n")
    (tmp_path / "parts.json").write_text('[{"train": [0], "val": [2]}, {"train": [1], "val": [0]}]')
    np.savez(tmp_path / "parts.npz", train_0=[0], val_0=[2], train_1=[1], val_1=[0])
    path = _saved(tmp_path, train=[0, 1, 2], val=[60, 61, 62], test=[100, 101])
    for ending in (".csv", ".json", ".npz"):
        lists = read_index_lists(tmp_path / f"parts{ending}", 2)
        assert [(one.val.tolist(), one.test.tolist()) for one in lists] == [([2], []), ([0], [])]
        partition = Partition(kind=PartitionKind.LIST, parts=2, part=0, file=tmp_path / f"parts{ending}")
        dataset = open_source(NpzSource(path=path, partition=partition, classes=("a", "b")))
        assert (_levels(dataset.train), _levels(dataset.val)) == ([0], [62])


def test_a_class_of_validation_pictures_alone_is_refused_unless_stated(tmp_path: Path) -> None:
    path = _saved(tmp_path, train=[0, 2], val=[61], test=[100])
    with pytest.raises(DataError, match="class '1' has validation images and no training image"):
        open_source(NpzSource(path=path))
    assert len(open_source(NpzSource(path=path, classes=("a", "b"))).val) == 1


def _images(*levels: int) -> LabelledImages:
    return LabelledImages(
        np.full((1, 1, 2, 2), 1, np.uint8) * np.reshape(levels, (-1, 1, 1, 1)).astype(np.uint8),
        np.zeros(len(levels), np.int64),
    )


def test_repeated_pictures_are_counted_by_split() -> None:
    dataset = Dataset(
        name="x", classes=("a", "b"), train=_images(1, 2, 3), val=_images(3, 4, 5), test=_images(1, 4, 4, 9)
    )
    assert repeated_images(dataset) == {"val": 1, "test": 3}
    assert repeated_images(Dataset(name="x", classes=("a", "b"), train=_images(1), test=_images(2))) == {}


def test_no_validation_pictures_have_the_shape_of_the_others() -> None:
    dataset = Dataset(name="x", classes=("a", "b"), train=_images(1), test=_images(2))
    assert (len(dataset.val), dataset.val.shape) == (0, dataset.train.shape)
