"""Files that others have made: kinds, sizes, links; each is judged before it is read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mple.disk.bounded import UnsoundFileError, lines_bounded, read_bounded, require_within


def test_what_is_small_and_regular_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bounded(tmp_path / "a", 5) == b"12345"
    with pytest.raises(UnsoundFileError, match="has 5 bytes; at most 4 are read"):
        read_bounded(tmp_path / "a", 4)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/", "/proc/self/fd"])
def test_what_is_no_file_is_not_read(path: str) -> None:
    with pytest.raises(OSError, match="no regular file"):
        read_bounded(Path(path))


def test_what_grows_without_end_is_not_read_to_it() -> None:
    with pytest.raises(UnsoundFileError, match="more than 1,000 bytes"):
        read_bounded(Path("/dev/zero"), 1_000, named=True)


def test_a_pipe_is_not_waited_for_unless_the_user_has_named_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        read_bounded(tmp_path / "pipe")
    ours, theirs = os.pipe()
    os.write(theirs, b"run")
    os.close(theirs)
    assert read_bounded(Path(f"/dev/fd/{ours}"), named=True) == b"run"
    os.close(ours)


def test_a_file_that_says_nothing_of_its_size_is_bounded_too() -> None:
    """Linux gives the files of /proc the size 0."""
    with pytest.raises(UnsoundFileError, match="more than 3 bytes"):
        read_bounded(Path("/proc/self/status"), 3)


def test_lines_come_one_by_one_and_long_ones_in_pieces(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1\n\n23456\n7")
    assert list(lines_bounded(tmp_path / "a", 100)) == [b"1\n", b"\n", b"23456\n", b"7"]
    assert list(lines_bounded(tmp_path / "a", 100, 4)) == [b"1\n", b"\n", b"2345", b"6\n", b"7"]


def test_a_folder_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "run" / "a" / "b").mkdir(parents=True)
    (tmp_path / "run" / "a" / "b" / "file").touch()
    (tmp_path / "run" / "up").symlink_to("a/b/file")
    (tmp_path / "run" / "a" / "round").symlink_to("..")
    (tmp_path / "by another name").symlink_to("run")
    require_within(tmp_path / "run")
    require_within(tmp_path / "by another name")


@pytest.mark.parametrize("target", ["..", "../x", "/etc", "/etc/passwd", "a/../../x", "none", "link", "a/../.."])
def test_a_link_that_leads_out(target: str, tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    (tmp_path / "run" / "a").mkdir(parents=True)
    (tmp_path / "run" / "link").symlink_to(target)
    with pytest.raises(UnsoundFileError, match="link"):
        require_within(tmp_path / "run")


def test_a_link_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a").symlink_to("b")
    (tmp_path / "run" / "b").symlink_to("/etc")
    with pytest.raises(UnsoundFileError, match="outside"):
        require_within(tmp_path / "run")


def test_a_sibling_with_a_longer_name_is_outside(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run-2").mkdir()
    (tmp_path / "run" / "a").symlink_to("../run-2")
    with pytest.raises(UnsoundFileError, match="outside"):
        require_within(tmp_path / "run")
