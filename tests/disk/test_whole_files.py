"""Files are there whole or not at all."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mple.disk.whole_files import overwrite, put_in_place, write_whole
from tests.support.modes import umask_of

FULL_DISK = """
import resource, sys
from pathlib import Path
from mple.disk.whole_files import write_whole
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    write_whole(Path(sys.argv[1]), bytes(10_000))
except OSError as fault:
    print("refused")
"""


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_new_content_takes_the_place_of_the_old(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "file"
    (tmp_path / "file.part").write_bytes(b"left by a process that died")
    with umask_of(umask):
        for content in (b"one", b"two"):
            write_whole(path, content)
            assert path.read_bytes() == content
    assert stat.S_IMODE(path.stat().st_mode) == 0o600, "its owner's alone"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_content_and_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")
    ended = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ("refused\n", "")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_written_beside_gets_its_name(tmp_path: Path) -> None:
    part, path = tmp_path / "file.part", tmp_path / "file"
    part.write_bytes(b"content")
    put_in_place(part, path)
    assert path.read_bytes() == b"content"
    assert not part.exists()


def test_a_new_file_takes_nobodys_place(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_whole(path, b"first", new=True)
    with pytest.raises(FileExistsError):
        write_whole(path, b"second", new=True)
    assert path.read_bytes() == b"first"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_an_overwritten_file_is_gone_and_so_is_its_content(tmp_path: Path) -> None:
    path, other_name = tmp_path / "secret", tmp_path / "linked"
    path.write_bytes(b"secret" * 100)
    other_name.hardlink_to(path)
    overwrite(path)
    assert not path.exists()
    assert len(other_name.read_bytes()) == 600 and b"secret" not in other_name.read_bytes()
