"""Fetching from small archives in both layouts; what is not CIFAR-10 never gets a final name."""

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mple.data import Cifar10Source, DataError
from mple.data.cifar10 import CIFAR10_CLASSES, cifar10_catalogue
from mple.data.fetch import ArchiveSource, Progress, fetch_cifar10

PER_FILE = 4
DICE = np.random.default_rng(6)
LABELS = DICE.integers(0, 10, (6, PER_FILE), dtype=np.uint8)
PIXELS_FNCP = DICE.integers(0, 256, (6, PER_FILE, 3, 1024), dtype=np.uint8)
NAMES = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
RECORDS = np.concatenate([LABELS[:, :, None], PIXELS_FNCP.reshape(6, PER_FILE, -1)], axis=2)
FILES = {f"{name}.bin": records.tobytes() for name, records in zip(NAMES, RECORDS, strict=True)}
SUMS = {name: hashlib.md5(content).hexdigest() for name, content in FILES.items()}


def _packed(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return path


def _official(path: Path, files: Mapping[str, bytes] = FILES) -> Path:
    return _packed(path, {f"cifar-10-batches-bin/{name}": content for name, content in files.items()})


def _sheets(path: Path, **replaced: bytes) -> Path:
    members = {}
    for name, pixels_NCP in zip(NAMES, PIXELS_FNCP, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels_NCP.transpose(0, 2, 1))).save(buffer, "PNG")
        members[f"package/{name}.png"] = buffer.getvalue()
    members["package/train_lables.json"] = json.dumps(LABELS[:5].reshape(-1).tolist()).encode()
    members["package/test_lables.json"] = json.dumps(LABELS[5].tolist()).encode()
    return _packed(path, members | {f"package/{split}_lables.json": text for split, text in replaced.items()})


def _offering(archive: Path) -> ArchiveSource:
    def obtain(scratch: Path, progress: Progress) -> Path:
        progress("copying", 0, archive.stat().st_size)
        return Path(shutil.copy(archive, scratch))

    return ArchiveSource("a copy", obtain)


def _refuse(scratch: Path, progress: Progress) -> Path:
    raise OSError("nobody answers")


OUT_OF_REACH = ArchiveSource("a far place", _refuse)


def _found(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


@pytest.mark.parametrize("pack", [_official, _sheets])
def test_both_archives_give_the_same_files(tmp_path: Path, pack: type) -> None:
    archive = pack(tmp_path / "a.tgz")
    assert fetch_cifar10(tmp_path / "to", sources=[_offering(archive)], checksums=SUMS)
    found = _found(tmp_path / "to")
    assert found.pop("batches.meta.txt").decode().split() == list(CIFAR10_CLASSES)
    assert found == FILES


def test_what_was_fetched_can_be_read(tmp_path: Path) -> None:
    fetch_cifar10(tmp_path / "to", archive=_sheets(tmp_path / "a.tgz"), checksums=SUMS)
    catalogue = cifar10_catalogue(Cifar10Source(path=tmp_path / "to"), SUMS)
    np.testing.assert_array_equal(catalogue.test.labels, LABELS[5])
    np.testing.assert_array_equal(catalogue.train.read(np.arange(5 * PER_FILE)), PIXELS_FNCP[:5].reshape(-1, 3, 32, 32))


def test_the_next_source_is_asked_when_one_is_out_of_reach_or_wrong(tmp_path: Path) -> None:
    wrong = _packed(tmp_path / "wrong.tgz", {"README": b"x"})
    sources = [OUT_OF_REACH, _offering(wrong), _offering(_official(tmp_path / "a.tgz"))]
    assert fetch_cifar10(tmp_path / "to", sources=sources, checksums=SUMS)
    assert FILES.items() <= _found(tmp_path / "to").items()


def test_a_whole_folder_needs_no_source(tmp_path: Path) -> None:
    fetch_cifar10(tmp_path / "to", archive=_official(tmp_path / "a.tgz"), checksums=SUMS)
    assert not fetch_cifar10(tmp_path / "to", sources=[OUT_OF_REACH], checksums=SUMS)


def test_a_damaged_file_is_replaced(tmp_path: Path) -> None:
    archive = _official(tmp_path / "a.tgz")
    fetch_cifar10(tmp_path / "to", archive=archive, checksums=SUMS)
    (tmp_path / "to/data_batch_2.bin").write_bytes(b"x")
    assert fetch_cifar10(tmp_path / "to", archive=archive, checksums=SUMS)
    assert FILES.items() <= _found(tmp_path / "to").items()


def test_one_wrong_byte_and_nothing_is_kept(tmp_path: Path) -> None:
    changed = FILES | {"test_batch.bin": FILES["test_batch.bin"][:-1] + b"\x00"}
    archive = _official(tmp_path / "a.tgz", changed)
    with pytest.raises(DataError, match=r"test_batch\.bin has the MD5 sum .* instead of"):
        fetch_cifar10(tmp_path / "to", archive=archive, checksums=SUMS)
    assert not _found(tmp_path / "to")


def test_without_any_source_the_way_by_hand_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a far place: nobody answers.*By hand: .*--from .*data_batch_1\.bin"):
        fetch_cifar10(tmp_path / "to", sources=[OUT_OF_REACH], checksums=SUMS)
    assert not _found(tmp_path / "to")


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    archive = _official(tmp_path / "a.tgz")
    archive.write_bytes(archive.read_bytes()[:-4000])
    with pytest.raises(DataError, match=r"a\.tgz is missing or damaged"):
        fetch_cifar10(tmp_path / "to", archive=archive, checksums=SUMS)


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.tgz is missing"):
        fetch_cifar10(tmp_path / "to", archive=tmp_path / "none.tgz", checksums=SUMS)


def test_links_and_outward_names_are_neither_followed_nor_unpacked(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(FILES["test_batch.bin"])
    path = tmp_path / "a.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in FILES.items():
            about = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            if name == "test_batch.bin":
                about.type, about.linkname = tarfile.SYMTYPE, str(secret)
                tar.addfile(about)
            else:
                about.size = len(content)
                tar.addfile(about, io.BytesIO(content))
        outward = tarfile.TarInfo("../escaped")
        outward.size = 1
        tar.addfile(outward, io.BytesIO(b"x"))
    with pytest.raises(DataError, match="no plain file"):
        fetch_cifar10(tmp_path / "to", archive=path, checksums=SUMS)
    assert not (tmp_path / "escaped").exists()
    assert not _found(tmp_path / "to")


def test_a_member_that_declares_too_much_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.tgz"
    about = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
    about.size = 65 * 1024**2
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        tar.addfile(about, io.BytesIO(bytes(about.size)))
    with pytest.raises(DataError, match="has 68157440 bytes"):
        fetch_cifar10(tmp_path / "to", archive=path, checksums=SUMS)


@pytest.mark.parametrize("labels", [b"[300]", b"{}", b"[1, 2]", b"[", b"null", b"[" * 100_000])
def test_labels_that_do_not_fit_the_sheets_are_refused(tmp_path: Path, labels: bytes) -> None:
    archive = _sheets(tmp_path / "a.tgz", test=labels)
    with pytest.raises(DataError, match=r"a\.tgz is missing or damaged"):
        fetch_cifar10(tmp_path / "to", archive=archive, checksums=SUMS)


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    fetch_cifar10(
        tmp_path / "to",
        sources=[_offering(_official(tmp_path / "a.tgz"))],
        checksums=SUMS,
        progress=lambda *what: told.append(what),
    )
    texts = [text.split()[0] for text, _, _ in told]
    assert texts == ["looking", "copying", "reading"] + ["writing"] * 7
