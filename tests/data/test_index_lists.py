"""Index files of all three kinds, and what is wrong with others."""

import json
from pathlib import Path

import numpy as np
import pytest

from mple.data import DataError
from mple.data.index_lists import read_index_lists


def _write(folder: Path, ending: str) -> Path:
    path = folder / f"parts{ending}"
    if ending == ".json":
        path.write_text(json.dumps([{"train": [3, 0], "test": [1]}, {"train": [2]}]))
    elif ending == ".npz":
        np.savez(path, train_0=np.array([3, 0]), test_0=np.array([1], np.uint8), train_1=np.array([2], np.int32))
    else:
        path.write_text("part,split,index\n0,train,3\n0,train,0\n0,test,1\n1,train,2\n")
    return path


@pytest.mark.parametrize("ending", [".json", ".npz", ".csv"])
def test_all_kinds_of_files_say_the_same(tmp_path: Path, ending: str) -> None:
    first, second = read_index_lists(_write(tmp_path, ending), 2)
    assert [first.train.tolist(), first.test.tolist()] == [[3, 0], [1]]
    assert [second.train.tolist(), second.test.tolist()] == [[2], []]
    assert second.test.dtype == np.int64


@pytest.mark.parametrize("ending", [".json", ".npz"])
def test_another_number_of_parts_is_refused(tmp_path: Path, ending: str) -> None:
    path = _write(tmp_path, ending)
    for parts in (1, 3):
        with pytest.raises(DataError, match="parts"):
            read_index_lists(path, parts)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "{}",
        "[" * 100_000,
        '[{"train": [1.5]}, {"train": []}]',
        '[{"train": [true]}, {"train": []}]',
        '[{"train": "12"}, {"train": []}]',
        '[{"train": [1], "valid": []}, {"train": []}]',
        '[{"test": [1]}, {"train": []}]',
        '[{"train": [99999999999999999999]}, {"train": []}]',
    ],
)
def test_wrong_json_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "parts.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"parts\.json"):
        read_index_lists(path, 2)


@pytest.mark.parametrize("line", ["2,train,0", "-1,train,0", "0,valid,0", "0,train,", "0,train,1.0", "x,train,1", "0"])
def test_wrong_csv_lines_are_refused_by_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "parts.csv"
    path.write_text(f"part,split,index\n0,train,1\n{line}\n")
    with pytest.raises(DataError, match=r"parts\.csv, line 3"):
        read_index_lists(path, 2)


def test_csv_needs_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "parts.csv"
    path.write_text("site,index\n0,1\n")
    with pytest.raises(DataError, match="part,split,index"):
        read_index_lists(path, 1)


@pytest.mark.parametrize("numbers", [np.array([0.5]), np.array([[1]]), np.array([{}], dtype=object)])
def test_arrays_that_are_no_whole_numbers_are_refused(tmp_path: Path, numbers: np.ndarray) -> None:
    path = tmp_path / "parts.npz"
    np.savez(path, train_0=numbers)
    with pytest.raises(DataError, match=r"parts\.npz"):
        read_index_lists(path, 1)


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no index file"):
        read_index_lists(tmp_path / "parts.json", 1)
    with pytest.raises(DataError, match=r"\.json, \.npz, \.csv"):
        read_index_lists(tmp_path / "parts.pkl", 1)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("parts.csv", "part,split,index,index\n0,train,1,2\n", "two columns 'index'"),
        ("parts.csv", "part,split,index,site\n0,train,1,x\n", "the column 'site', which means nothing"),
        ("parts.csv", "part,split,index\n0,train,1_0\n", "index '1_0'"),
        ("parts.csv", "part,split,index\n0,train,\u0663\n", "index '\u0663'"),
        ("parts.csv", "part,split,index\n0,train,1,2\n", "line 2 has 4 cells"),
        ("parts.json", '[{"train": [1], "train": [2]}]', "one of them twice"),
    ],
)
def test_lists_that_say_two_things_are_refused(tmp_path: Path, name: str, content: str, text: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=text):
        read_index_lists(tmp_path / name, 1)


def test_semicolons_and_a_mark_at_the_start_are_read(tmp_path: Path) -> None:
    (tmp_path / "parts.csv").write_text("\ufeffpart;split;index\n0;train;5\n")
    (tmp_path / "parts.json").write_text('\ufeff[{"train": [5]}]')
    for name in ("parts.csv", "parts.json"):
        assert read_index_lists(tmp_path / name, 1)[0].train.tolist() == [5]


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        (np.array([2**63], np.uint64), "9223372036854775808 is out of range"),
        (np.array([1], "m8[s]"), "needs whole numbers"),
        (np.array([True]), "needs whole numbers"),
    ],
)
def test_arrays_of_other_numbers_are_refused(tmp_path: Path, numbers: np.ndarray, text: str) -> None:
    np.savez(tmp_path / "parts.npz", train_0=numbers)
    with pytest.raises(DataError, match=text):
        read_index_lists(tmp_path / "parts.npz", 1)
