"""A patient's pictures stay together, whatever divides a set and whatever the set is kept as."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.slices import Slices, draw_slices, save_npz
from mple.data import DataError, DataSource, NpzSource, Partition, PartitionKind, open_source
from mple.data.dicom import DicomSource
from mple.data.folder import FolderSource
from mple.data.images import PatientSplit
from mple.data.partitions import draw_owners, hold_out
from mple.data.patients import Patients, number_patients
from mple.data.settings import Validation
from mple.plan.reader import SettingsError, settings_from
from tests.support.slices import nearest_neighbour_accuracy, patients_shown, save_dicom, save_folder


def _folder(slices: Slices, path: Path, **settings: Any) -> DataSource:
    if not path.exists():
        save_folder(slices, path)
    return FolderSource(path=path, **{"patients": Patients.FOLDER} | settings)


def _files(slices: Slices, path: Path, **settings: Any) -> DataSource:
    pytest.importorskip("pydicom")
    if not path.exists():
        save_dicom(slices, path, column=False)
    return DicomSource(path=path, **settings)


def _table(slices: Slices, path: Path, **settings: Any) -> DataSource:
    pytest.importorskip("pydicom")
    if not path.exists():
        save_dicom(slices, path, column=True)
    return DicomSource(path=path, **settings)


def _npz(slices: Slices, path: Path, **settings: Any) -> DataSource:
    path = path.with_suffix(".npz")
    if not path.exists():
        save_npz(slices, path)
    return NpzSource(path=path, **settings)


SIDE_PX = 8
Kind = Callable[..., DataSource]
KINDS = pytest.mark.parametrize("kind", [_folder, _files, _table, _npz])


@KINDS
def test_a_drawn_split_has_no_patient_twice_and_is_learned_by_chance(tmp_path: Path, kind: Kind) -> None:
    slices, scores = draw_slices(11, SIDE_PX), []
    for seed in range(3 if kind in (_folder, _npz) else 1):  # DICOM files take seconds
        dataset = open_source(kind(slices, tmp_path / "set", seed=seed))
        train, test = (patients_shown(slices, split) for split in (dataset.train, dataset.test))
        assert not train & test
        assert len(train | test) == 24
        assert np.bincount(dataset.test.labels).tolist() == [40, 40]  # 0.2 of 240, in whole patients of 20
        assert dataset.patients is PatientSplit.APART
        scores.append(nearest_neighbour_accuracy(dataset.train, dataset.test))
    assert 0.1 < np.mean(scores) < 0.9  # of four patients each


def test_accuracy_on_patients_that_tell_nothing_is_that_of_chance(tmp_path: Path) -> None:
    scores, remembered = [], []
    for seed in range(40):
        slices = draw_slices(seed, SIDE_PX)
        dataset = open_source(_npz(slices, tmp_path / str(seed)))
        scores.append(nearest_neighbour_accuracy(dataset.train, dataset.test))
        blind = open_source(_npz(slices, tmp_path / str(seed), patients=Patients.IGNORED))
        remembered.append(nearest_neighbour_accuracy(blind.train, blind.test))
        assert blind.patients is PatientSplit.UNKNOWN
    assert set(remembered) == {1.0}
    # 160 test patients are as many coins: 0.04 of standard deviation
    assert abs(np.mean(scores) - 0.5) < 0.12


@pytest.mark.parametrize(("kind", "over"), [(_npz, "iid"), (_npz, "dirichlet"), (_npz, "quantity"), (_folder, "iid")])
def test_a_deal_over_sites_keeps_patients_together(tmp_path: Path, kind: Kind, over: str) -> None:
    slices, seen = draw_slices(5, SIDE_PX), []
    shares = {"shares": (1.0, 2.0, 3.0)} if over == "quantity" else {}
    for part in range(3):
        partition = Partition(kind=PartitionKind(over), parts=3, part=part, seed=4, **shares)
        dataset = open_source(kind(slices, tmp_path / "set", partition=partition))
        train, test = (patients_shown(slices, split) for split in (dataset.train, dataset.test))
        assert not train & test
        seen.append(train | test)
    assert sum(map(len, seen)) == len(set.union(*seen)) == 24
    if over == "iid":
        assert {len(one) for one in seen} <= {7, 8, 9}


def test_limits_do_not_split_a_patient_over_train_and_test(tmp_path: Path) -> None:
    slices = draw_slices(6, SIDE_PX)
    dataset = open_source(_npz(slices, tmp_path / "set", most_train=50, most_test=30))
    assert not patients_shown(slices, dataset.train) & patients_shown(slices, dataset.test)
    assert (len(dataset.train), len(dataset.test), dataset.patients) == (50, 30, PatientSplit.APART)


def _own_split(path: Path, train: list[Any], test: list[Any], **settings: Any) -> Any:
    arrays = {}
    for name, who in (("train", train), ("test", test)):
        arrays[f"x_{name}"] = np.arange(len(who) * 16, dtype=np.uint8).reshape(len(who), 4, 4)
        arrays[f"y_{name}"] = np.arange(len(who)) % 2
        arrays[f"patient_{name}"] = np.asarray(who)
    np.savez(path / "set.npz", **arrays)
    return open_source(NpzSource(path=path / "set.npz", **settings))


def test_a_sites_own_split_is_checked_and_the_warning_names_nobody(tmp_path: Path) -> None:
    dataset = _own_split(tmp_path, ["Ann", "Ann", "Bob", "Cy"], ["ann ", "Dan", "Bob", "Bob"])
    assert dataset.patients is PatientSplit.SHARED
    assert dataset.notes[:1] == (
        "patients in training and in test pictures: 2; the test measures how well they are remembered: divide the set "
        "by patients",
    )
    assert _own_split(tmp_path, ["Ann", "Bob"], ["Cy", "Dan"]).patients is PatientSplit.APART


@pytest.mark.parametrize("name", ["{}_patients", "{}_patient", "patient_{}", "patients_{}"])
@pytest.mark.parametrize(("images", "labels"), [("x_{}", "y_{}"), ("{}_images", "{}_labels")])
def test_arrays_of_patients_go_by_some_names(tmp_path: Path, images: str, labels: str, name: str) -> None:
    arrays: dict[str, Any] = {}
    for split, who in (("train", ["a", "b"]), ("val", ["b", "c"]), ("test", ["d", "e"])):
        arrays |= {images.format(split): np.zeros((2, 4, 4), np.uint8), labels.format(split): [0, 1]}
        arrays[name.format(split)] = who
    np.savez(tmp_path / "set.npz", **arrays)
    assert open_source(NpzSource(path=tmp_path / "set.npz")).patients is PatientSplit.SHARED
    ignored = NpzSource(path=tmp_path / "set.npz", validation=Validation.IGNORED)
    assert open_source(ignored).patients is PatientSplit.APART


def test_a_patient_of_both_splits_is_dealt_to_one_site(tmp_path: Path) -> None:
    train, test = [n // 3 for n in range(30)], [n // 2 for n in range(40)]
    for kind in (PartitionKind.IID, PartitionKind.DIRICHLET):
        partition = Partition(kind=kind, parts=3, seed=1)
        of_train, of_test = draw_owners(
            partition, (np.arange(30) % 2, np.arange(40) % 2), 2, (np.asarray(train), np.asarray(test))
        )
        owners = {}
        for who, part in [*zip(train, of_train, strict=True), *zip(test, of_test, strict=True)]:
            assert owners.setdefault(who, part) == part


def test_a_site_that_is_dealt_no_test_patient_is_told(tmp_path: Path) -> None:
    partition = Partition(kind=PartitionKind.IID, parts=3)
    notes = [
        _own_split(tmp_path, list("aabbcc"), ["d"], partition=replace(partition, part=part)).notes for part in range(3)
    ]
    assert sum("no test picture is left for this site" in "".join(one) for one in notes) == 2


def test_lists_that_split_a_patient_are_said(tmp_path: Path) -> None:
    (tmp_path / "parts.json").write_text('[{"train": [0, 2]}, {"train": [1, 3], "test": [0]}]')
    partition = Partition(kind=PartitionKind.LIST, parts=2, part=1, file=tmp_path / "parts.json")
    dataset = _own_split(tmp_path, ["a", "a", "b", "c"], ["b", "d"], partition=partition)
    assert dataset.notes[0].startswith("patients with pictures in the lists of several parts: 2;")
    assert dataset.patients is PatientSplit.APART  # at this site


@st.composite
def _people(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    patients = draw(st.lists(st.integers(0, 12), min_size=3, max_size=80))
    labels = draw(st.lists(st.integers(0, 3), min_size=len(patients), max_size=len(patients)))
    return np.unique(patients, return_inverse=True)[1].reshape(-1), np.asarray(labels)


@given(_people(), st.floats(0, 0.9), st.integers(0, 9))
def test_holding_out_patients_never_splits_one_nor_takes_a_whole_class(
    people: tuple[np.ndarray, np.ndarray], share: float, seed: int
) -> None:
    patients, labels = people
    held = hold_out(labels, share, seed, patients)
    assert not set(patients[held]) & set(patients[~held])
    assert set(labels[held]) <= set(labels[~held])
    np.testing.assert_array_equal(held, hold_out(labels, share, seed, patients))


@given(_people(), st.sampled_from([PartitionKind.IID, PartitionKind.DIRICHLET]), st.integers(2, 4), st.integers(0, 9))
def test_dealing_patients_gives_each_one_owner_and_no_part_none(
    people: tuple[np.ndarray, np.ndarray], kind: PartitionKind, parts: int, seed: int
) -> None:
    patients, labels = people
    partition, none = Partition(kind=kind, parts=parts, seed=seed), np.empty(0, np.int64)
    if len(set(patients)) < parts or len(labels) < parts:
        with pytest.raises(DataError, match="can't give"):
            draw_owners(partition, (labels, none), 4, (patients, none))
        return
    owners, _ = draw_owners(partition, (labels, none), 4, (patients, none))
    assert set(owners) == set(range(parts))
    assert len(set(zip(patients, owners, strict=True))) == len(set(patients))


def test_names_that_look_alike_are_one_patient() -> None:
    numbers = number_patients(["P1", " p1", "P\uff11", "P2", "p  2", "P 2"], "x")
    assert numbers is not None
    assert numbers.tolist() == [numbers[0]] * 3 + [numbers[3]] + [numbers[4]] * 2
    assert len(set(numbers.tolist())) == 3


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["a", "NaN", "b"], "1 of 3 pictures do not say which patient they are of"),
        (["ANON"] * 4, "all 4 pictures name one patient; give each .* or set patients = .ignored."),
    ],
)
def test_names_that_tell_nothing_are_refused(names: list[str], text: str) -> None:
    with pytest.raises(DataError, match=text) as caught:
        number_patients(names, "x")
    assert "ANON" not in str(caught.value)


def test_a_set_without_patients_can_not_know(tmp_path: Path) -> None:
    assert number_patients(["", "n/a"], "x") is None
    np.savez(tmp_path / "set.npz", x=np.zeros((9, 4, 4), np.uint8), y=np.arange(9) % 2)
    assert open_source(NpzSource(path=tmp_path / "set.npz")).patients is PatientSplit.UNKNOWN


def test_pictures_beside_patients_folders_are_refused(tmp_path: Path) -> None:
    slices = draw_slices(1, SIDE_PX)
    save_folder(slices, tmp_path / "set")
    (tmp_path / "set/sick/loose.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"loose\.png lies in no patient's folder"):
        open_source(FolderSource(path=tmp_path / "set", patients=Patients.FOLDER))
    (tmp_path / "set/sick/loose.png").unlink()
    with pytest.raises(DataError, match='for a folder per patient set patients = "folder"'):
        open_source(FolderSource(path=tmp_path / "set"))


def test_folders_of_patients_are_for_image_folders() -> None:
    with pytest.raises(SettingsError, match='patients = "folder" is for data of kind folder'):
        settings_from(DataSource, {"kind": "npz", "path": "x", "patients": "folder"})


@pytest.mark.parametrize(
    ("patients", "text"),
    [
        (np.arange(9.0), "patient are float64; needs whole numbers or texts"),
        (np.arange(8), r"patient have the shape \(8,\) for 9 images"),
        (np.zeros((9, 2), int), "an image needs one, not several"),
        (np.array(["a"] * 8 + [""]), "1 of 9 pictures do not say"),
        (np.array([b"a"] * 8 + [b""]), "1 of 9 pictures do not say"),
        (np.array(["a"] * 9, "U300"), "at most 1024 bytes for each are read"),
    ],
)
def test_wrong_arrays_of_patients_are_refused(tmp_path: Path, patients: np.ndarray, text: str) -> None:
    np.savez(tmp_path / "set.npz", x=np.zeros((9, 4, 4), np.uint8), y=np.arange(9) % 2, patient=patients)
    with pytest.raises(DataError, match=text):
        open_source(NpzSource(path=tmp_path / "set.npz"))
