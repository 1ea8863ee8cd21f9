"""The binary layout of CIFAR-10, on small files with their own checksums."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from mple.data import Cifar10Source, DataError, DataSource, cifar10, default_data_folder
from mple.data.cifar10 import CIFAR10_CLASSES, CIFAR10_MD5, cifar10_catalogue, faulty_files

PER_FILE = 7


def _write(folder: Path) -> tuple[dict[str, str], np.ndarray]:
    dice = np.random.default_rng(2)
    records = dice.integers(0, 256, (6, PER_FILE, 3073), dtype=np.uint8)
    records[:, :, 0] = np.arange(PER_FILE) % 10
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in zip(CIFAR10_MD5, records, strict=True):
        (folder / name).write_bytes(content.tobytes())
    return _sums(folder), records


def _sums(folder: Path) -> dict[str, str]:
    return {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in CIFAR10_MD5}


def _source(folder: Path | None = None, **settings: tuple[str, ...]) -> DataSource:
    return Cifar10Source(path=folder, **settings)


def test_records_become_labels_and_pixels(tmp_path: Path) -> None:
    sums, records = _write(tmp_path)
    catalogue = cifar10_catalogue(_source(tmp_path), sums)
    train = records[:5].reshape(-1, 3073)
    assert catalogue.classes == CIFAR10_CLASSES
    np.testing.assert_array_equal(catalogue.train.labels, train[:, 0])
    places = np.arange(5 * PER_FILE)
    np.testing.assert_array_equal(catalogue.train.read(places), train[:, 1:].reshape(-1, 3, 32, 32))
    np.testing.assert_array_equal(catalogue.test.read(np.array([6]))[0], records[5, 6, 1:].reshape(3, 32, 32))


def test_single_images_are_found_over_the_borders_of_files(tmp_path: Path) -> None:
    sums, records = _write(tmp_path)
    places = np.array([0, PER_FILE - 1, PER_FILE, 3 * PER_FILE + 2, 5 * PER_FILE - 1])
    expected = records[:5].reshape(-1, 3073)[places, 1:].reshape(-1, 3, 32, 32)
    np.testing.assert_array_equal(cifar10_catalogue(_source(tmp_path), sums).train.read(places), expected)


@pytest.mark.parametrize("few", [0, 1, 10_000])
def test_few_images_are_read_as_all_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    """Whether a file is read by single records (0), where not all are wanted (1), or as a whole."""
    monkeypatch.setattr(cifar10, "_FEW", few)
    sums, records = _write(tmp_path)
    whole = records[:5].reshape(-1, 3073)
    read = cifar10_catalogue(_source(tmp_path), sums).train.read
    for places in ([], [3], [0, PER_FILE, PER_FILE + 1, 5 * PER_FILE - 1], list(range(5 * PER_FILE))):
        expected = whole[places, 1:].reshape(-1, 3, 32, 32)
        np.testing.assert_array_equal(read(np.array(places, np.int64)), expected)


def test_a_flipped_bit_is_noticed_and_named(tmp_path: Path) -> None:
    sums, _ = _write(tmp_path)
    path = tmp_path / "data_batch_3.bin"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert faulty_files(tmp_path, sums) == ["data_batch_3.bin"]
    with pytest.raises(DataError, match=r"data_batch_3\.bin is missing or damaged; run 'mple data fetch cifar10 --to"):
        cifar10_catalogue(_source(tmp_path), sums)


def test_an_outline_looks_for_the_files_and_reads_their_labels_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, records = _write(tmp_path)
    monkeypatch.setattr(cifar10, "_file_md5", lambda _path: pytest.fail("a whole file was read"))
    outline = _source(tmp_path).outline()
    np.testing.assert_array_equal(outline.train.labels, records[:5].reshape(-1, 3073)[:, 0])
    (tmp_path / "data_batch_2.bin").unlink()
    with pytest.raises(DataError, match="CIFAR-10 is not in"):
        _source(tmp_path).outline()


def test_files_of_another_length_are_refused(tmp_path: Path) -> None:
    _write(tmp_path)
    (tmp_path / "test_batch.bin").write_bytes(bytes(3072))
    with pytest.raises(DataError, match=r"test_batch\.bin has 3072 bytes"):
        cifar10_catalogue(_source(tmp_path), _sums(tmp_path))


def test_a_label_above_nine_is_refused(tmp_path: Path) -> None:
    _, records = _write(tmp_path)
    records[5, 0, 0] = 10
    (tmp_path / "test_batch.bin").write_bytes(records[5].tobytes())
    with pytest.raises(DataError, match="label 10 is out of range"):
        cifar10_catalogue(_source(tmp_path), _sums(tmp_path))


def test_what_was_never_fetched_tells_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not in .* run 'mple data fetch cifar10"):
        cifar10_catalogue(_source(tmp_path / "none"))


def test_small_files_are_not_taken_for_cifar10(tmp_path: Path) -> None:
    _write(tmp_path)
    with pytest.raises(DataError, match="damaged"):
        cifar10_catalogue(_source(tmp_path))


def test_classes_can_be_renamed_but_not_dropped(tmp_path: Path) -> None:
    sums, _ = _write(tmp_path)
    names = tuple("abcdefghij")
    assert cifar10_catalogue(_source(tmp_path, classes=names), sums).classes == names
    with pytest.raises(DataError, match="out of range; there are 3 classes"):
        cifar10_catalogue(_source(tmp_path, classes=names[:3]), sums)


def test_the_default_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLE_DATA", str(tmp_path))
    assert default_data_folder() == tmp_path
    sums, _ = _write(tmp_path / "cifar10")
    assert len(cifar10_catalogue(_source(), sums).train.labels) == 5 * PER_FILE
    monkeypatch.delenv("MPLE_DATA")
    assert default_data_folder() == Path.home() / ".cache" / "mple"


def test_the_checksums_are_read_once_in_a_process_until_a_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many sites of a process have the same archive; each reads its own pictures."""
    sums, _ = _write(tmp_path)
    looked: list[Path] = []

    def watched(path: Path) -> str | None:
        looked.append(path)
        return file_md5(path)

    file_md5 = cifar10._file_md5
    monkeypatch.setattr(cifar10, "_file_md5", watched)
    first, second = (cifar10_catalogue(_source(tmp_path), sums) for _ in range(2))
    assert len(looked) == 6
    assert second.train.labels is first.train.labels
    assert not first.train.labels.flags.writeable, "what all share nobody may change"
    with (tmp_path / "data_batch_3.bin").open("r+b") as file:
        file.write(bytes([255]))
    os.utime(file.name, ns=(1, 1))
    with pytest.raises(DataError, match=r"data_batch_3\.bin is missing or damaged"):
        cifar10_catalogue(_source(tmp_path), sums)
