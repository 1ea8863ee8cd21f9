"""The [data] section: what it accepts, and how partition and limits come together."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mple.data import SOURCES, DataError, Dataset, DataSource, NpzSource, Partition, PartitionKind, open_source
from mple.data.dicom import DicomSource
from mple.plan import SiteSettings
from mple.plan.reader import SettingsError, read_settings, settings_from, write_settings


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Forty training and ten test images; each has its number as the value of all its pixels."""
    path = tmp_path / "set.npz"
    train = np.broadcast_to(np.arange(40, dtype=np.uint8)[:, None, None], (40, 4, 4))
    np.savez(path, x_train=train, y_train=np.arange(40) % 4, x_test=train[:10], y_test=np.arange(10) % 4)
    return path


def _open(path: Path, **settings: Any) -> Dataset:
    return open_source(NpzSource(path=path, **settings))


def _numbers(dataset: Dataset) -> list[int]:
    return dataset.train.pixels_NCHW[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("kind", [PartitionKind.IID, PartitionKind.DIRICHLET])
def test_parts_together_are_the_whole_and_labels_stay_with_images(archive: Path, kind: PartitionKind) -> None:
    seen, tests = [], 0
    for part in range(3):
        dataset = _open(archive, partition=Partition(kind=kind, parts=3, part=part, seed=9))
        assert dataset.train.labels.tolist() == [number % 4 for number in _numbers(dataset)]
        seen += _numbers(dataset)
        tests += len(dataset.test)
        assert dataset.classes == ("0", "1", "2", "3")
    assert sorted(seen) == list(range(40))
    assert tests == 10


def test_lists_choose_the_part(archive: Path, tmp_path: Path) -> None:
    lists = tmp_path / "parts.csv"
    lists.write_text("part,split,index\n0,train,1\n1,train,39\n1,train,0\n1,test,2\n")
    dataset = _open(archive, partition=Partition(kind=PartitionKind.LIST, parts=2, part=1, file=lists))
    assert _numbers(dataset) == [0, 39]
    assert dataset.test.labels.tolist() == [2]


@pytest.mark.parametrize(("line", "text"), [("0,train,40", "number 40; there are 40 images"), ("0,train,1", "twice")])
def test_wrong_lists_are_refused_with_the_file(archive: Path, tmp_path: Path, line: str, text: str) -> None:
    lists = tmp_path / "parts.csv"
    lists.write_text(f"part,split,index\n0,train,1\n{line}\n")
    with pytest.raises(DataError, match=rf"parts\.csv: .*{text}"):
        _open(archive, partition=Partition(kind=PartitionKind.LIST, file=lists))


def test_a_part_without_training_images_is_refused(archive: Path, tmp_path: Path) -> None:
    lists = tmp_path / "parts.csv"
    lists.write_text("part,split,index\n0,test,1\n")
    with pytest.raises(DataError, match="no training image is left"):
        _open(archive, partition=Partition(kind=PartitionKind.LIST, file=lists))


def test_limits_choose_within_the_part_by_seed(archive: Path) -> None:
    partition = Partition(kind=PartitionKind.IID, parts=2, part=1)
    whole = _open(archive, partition=partition)
    first, again, other = (_open(archive, partition=partition, most_train=7, most_test=2, seed=s) for s in (1, 1, 2))
    assert (len(first.train), len(first.test)) == (7, 2)
    assert set(_numbers(first)) < set(_numbers(whole))
    assert _numbers(first) == _numbers(again) != _numbers(other)
    assert not len(_open(archive, most_test=0).test)


def test_each_kind_has_a_row_under_its_own_name() -> None:
    kinds = {
        name: next(field.default for field in fields(one) if field.name == "kind") for name, one in SOURCES.items()
    }
    assert list(kinds.values()) == list(kinds) == ["cifar10", "npz", "folder", "dicom", "dicomweb"]


def test_a_section_that_is_none_is_named() -> None:
    with pytest.raises(SettingsError, match="data = 3 is not a section"):
        settings_from(
            SiteSettings, {"state": "s", "tls": "t", "vault": "v", "coordinator": "", "compute": "", "data": 3}
        )


def test_settings_survive_being_written(tmp_path: Path) -> None:
    source = DicomSource(
        path=tmp_path / "scans",
        classes=("a", "b"),
        side_px=64,
        window=(40.0, 400.0),
        partition=Partition(kind=PartitionKind.QUANTITY, parts=2, part=1, shares=(1.0, 3.0)),
        most_train=5,
    )
    (tmp_path / "data.toml").write_text(write_settings(source))
    assert read_settings(DataSource, tmp_path / "data.toml") == source


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    raw = {"kind": "npz", "path": "set.npz", "partition": {"kind": "list", "parts": 2, "file": "parts.csv"}}
    source = settings_from(DataSource, raw, base=tmp_path)
    assert (source.path, source.partition.file) == (tmp_path / "set.npz", tmp_path / "parts.csv")


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ({}, "kind is missing; choose one of cifar10, npz, folder, dicom"),
        ({"kind": "npz"}, "path is missing"),
        ({"kind": "mnist"}, "kind = 'mnist'; choose one of cifar10, npz, folder, dicom"),
        ({"kind": ["npz"]}, "choose one of cifar10, npz, folder, dicom"),
        (
            {"kind": "cifar10", "side_px": 64},
            'side_px is for data of kind folder, dicom and dicomweb, not for kind = "cifar10"',
        ),
        ({"kind": "npz", "path": "x", "channels": "rgb"}, "channels is for data of kind folder, dicom and dicomweb"),
        ({"kind": "folder", "path": "x", "window": [1, 2]}, "window is for data of kind dicom and dicomweb, not"),
        ({"kind": "folder", "path": "x", "side_px": 0}, "side_px = 0; allowed are 1 to 4096"),
        ({"kind": "folder", "path": "x", "test_share": 1.0}, "test_share = 1.0"),
        ({"kind": "dicom", "path": "x", "window": [1]}, "needs centre and width"),
        ({"kind": "dicom", "path": "x", "window": [1, 0]}, "needs centre and width"),
        ({"kind": "cifar10", "classes": ["a"]}, "name two at least"),
        ({"kind": "cifar10", "classes": ["a", "a"]}, "each once"),
        ({"kind": "cifar10", "classes": ["a", " "]}, "the name ' ' is empty"),
        ({"kind": "cifar10", "most_train": 0}, "most_train = 0; allowed are 1 and above"),
        ({"kind": "cifar10", "most_test": -1}, "most_test = -1; allowed are 0 and above"),
        ({"kind": "cifar10", "seed": -1}, "seed = -1; allowed are 0 and above"),
        ({"kind": "dicom", "path": "x", "most_bytes": 0}, "most_bytes = 0; allowed are 1 and above"),
        ({"kind": "cifar10", "partition": {"parts": 3}}, "choose iid"),
        ({"kind": "cifar10", "size": 64}, "did you mean"),
    ],
)
def test_wrong_settings_are_named(raw: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        settings_from(DataSource, raw)
