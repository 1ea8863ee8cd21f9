"""A file in chunks: whatever breaks, what is allowed ends with the same bytes, and all else with an error."""

from __future__ import annotations

import contextlib
import hashlib
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mple.rpc import ErrorCode, MpleError
from mple.rpc.file_transfer import ATTEMPTS, CHUNK_BYTES, ChunkFile, chunks_of, remove_file, while_torn
from tests.support.small_run import refused

DATA = random.Random(1).randbytes(10_000)
SHA = hashlib.sha256(DATA).digest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "layer.safetensors"


def receiver(path: Path, data: bytes = DATA) -> ChunkFile:
    return ChunkFile(path, len(data), hashlib.sha256(data).digest())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(1, 4000), max_size=6), max_size=6))
def test_a_transfer_that_breaks_anywhere_goes_on_where_it_was(streams: list[list[int]]) -> None:
    """Each stream has chunks of these sizes and breaks then; a last one goes through."""
    with tempfile.TemporaryDirectory() as folder:
        path, at = Path(folder) / "file.bin", 0
        for sizes in streams:
            file = receiver(path)
            assert file.present == at
            for size in sizes:
                data = DATA[at : at + size]
                if data:
                    file.take(at, data, False)
                    at += len(data)
            with refused(ErrorCode.STREAM_TRUNCATED):
                file.finish()
        file = receiver(path)
        file.take(at, DATA[at:], True)
        assert file.finish().read_bytes() == DATA
        assert [one.name for one in Path(folder).iterdir()] == [path.name]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2 * CHUNK_BYTES + 10), st.integers(0, 2 * CHUNK_BYTES + 10))
def test_what_one_end_sends_the_other_takes(size: int, offset: int) -> None:
    data = random.Random(size).randbytes(size)
    offset = min(offset, size)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source", Path(folder) / "target.bin"
        source.write_bytes(data)
        target.with_suffix(".part").write_bytes(data[:offset])
        file = receiver(target, data)
        for chunk in chunks_of(source, file.present, size):
            assert len(chunk.data) <= CHUNK_BYTES
            file.take(*chunk)
        assert file.finish().read_bytes() == data


@pytest.mark.parametrize("offset", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES])
def test_only_the_last_chunk_is_marked_and_it_may_be_empty(path: Path, offset: int) -> None:
    data = random.Random(4).randbytes(2 * CHUNK_BYTES)
    path.write_bytes(data)
    chunks = list(chunks_of(path, offset, len(data)))
    assert [chunk.final for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert b"".join(chunk.data for chunk in chunks) == data[offset:]


def test_a_start_beyond_the_end_and_a_file_that_shrank_are_refused(path: Path) -> None:
    path.write_bytes(DATA[:100])
    with refused(ErrorCode.FILE_OFFSET, "offset 10001 of a file of 10000"):
        next(chunks_of(path, len(DATA) + 1, len(DATA)))
    with refused(ErrorCode.STREAM_TRUNCATED, "ends at byte 100 of 10000"):
        list(chunks_of(path, 0, len(DATA)))


@pytest.mark.parametrize("offset", [0, 2999, 3001, 10_000, 2**63])
def test_wrong_offset_is_refused_and_nothing_written(path: Path, offset: int) -> None:
    file = receiver(path)
    file.take(0, DATA[:3000], False)
    with refused(ErrorCode.FILE_OFFSET, f"chunk at byte {offset}, expected 3000"):
        file.take(offset, DATA[:10], False)
    assert receiver(path).present == 3000


@pytest.mark.parametrize(
    ("data", "final", "code", "text"),
    [
        (b"x" * 1001, False, ErrorCode.MESSAGE_MALFORMED, "beyond the announced 10000"),
        (b"x" * 1001, True, ErrorCode.MESSAGE_MALFORMED, "beyond the announced 10000"),
        (b"x" * 999, True, ErrorCode.STREAM_TRUNCATED, "the last at byte 9999 of 10000"),
        (b"", True, ErrorCode.STREAM_TRUNCATED, "the last at byte 9000 of 10000"),
        (b"", False, ErrorCode.MESSAGE_MALFORMED, "an empty chunk that is not the last"),
        (bytes(CHUNK_BYTES + 1), False, ErrorCode.MESSAGE_MALFORMED, "allowed are 524288"),
    ],
)
def test_chunk_that_can_not_be_is_refused(path: Path, data: bytes, final: bool, code: ErrorCode, text: str) -> None:
    file = receiver(path)
    file.take(0, DATA[:9000], False)
    with refused(code, text):
        file.take(9000, data, final)
    with refused(ErrorCode.STREAM_TRUNCATED):
        file.finish()


def test_nothing_may_follow_the_last_chunk(path: Path) -> None:
    file = receiver(path)
    file.take(0, DATA, True)
    for final in (False, True):
        with refused(ErrorCode.MESSAGE_MALFORMED, "follows the one that was marked as the last"):
            file.take(len(DATA), b"x", final)
    assert file.finish().read_bytes() == DATA


def test_all_bytes_without_the_mark_are_no_end_and_are_kept(path: Path) -> None:
    file = receiver(path)
    file.take(0, DATA, False)
    with refused(ErrorCode.STREAM_TRUNCATED, "before its last chunk"):
        file.finish()
    again = receiver(path)
    again.take(again.present, b"", True)
    assert again.finish().read_bytes() == DATA


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 8 * len(DATA) - 1))
def test_any_flipped_bit_differs_from_the_digest_and_all_of_it_is_gone(bit: int) -> None:
    flipped = bytearray(DATA)
    flipped[bit // 8] ^= 1 << bit % 8
    with tempfile.TemporaryDirectory() as folder:
        file = receiver(Path(folder) / "file.bin")
        file.take(0, bytes(flipped), True)
        with refused(ErrorCode.FILE_DIGEST_MISMATCH, f"announced was {SHA.hex()[:16]}"):
            file.finish()
        assert not list(Path(folder).iterdir())


def test_a_part_that_is_too_long_begins_anew(path: Path) -> None:
    path.with_suffix(".part").write_bytes(DATA + b"x")
    assert receiver(path).present == 0


def test_a_whole_file_takes_one_empty_last_chunk(path: Path) -> None:
    path.write_bytes(DATA)
    file = receiver(path)
    file.take(file.present, b"", True)
    assert file.finish() == path


def test_the_name_is_given_within_what_the_caller_holds(path: Path) -> None:
    file = receiver(path)
    file.take(0, DATA, True)

    @contextlib.contextmanager
    def overtaken() -> Iterator[None]:
        raise MpleError(ErrorCode.FILE_OFFSET)
        yield

    with refused(ErrorCode.FILE_OFFSET):
        file.finish(overtaken())
    assert not path.exists()


def test_removed_with_all_that_has_come(path: Path) -> None:
    path.write_bytes(DATA)
    path.with_suffix(".part").write_bytes(DATA)
    remove_file(path)
    remove_file(path)
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("torn", range(ATTEMPTS + 1))
def test_a_torn_transfer_is_made_anew_a_few_times(torn: int) -> None:
    def transfer() -> int:
        tries.append(len(tries) + 1)
        if len(tries) <= torn:
            raise MpleError(ErrorCode.FILE_DIGEST_MISMATCH)
        return len(tries)

    tries: list[int] = []
    if torn < ATTEMPTS:
        assert while_torn(transfer) == torn + 1
    else:
        with refused(ErrorCode.FILE_DIGEST_MISMATCH):
            while_torn(transfer)
    assert len(tries) == min(ATTEMPTS, torn + 1)


def test_another_error_is_not_tried_again() -> None:
    def transfer() -> None:
        tries.append(1)
        raise MpleError(ErrorCode.LAYER_REJECTED)

    tries: list[int] = []
    with refused(ErrorCode.LAYER_REJECTED):
        while_torn(transfer)
    assert tries == [1]


def test_a_file_for_a_moment_is_whole_and_not_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: pytest.fail("the disk was waited for"))
    file = receiver(path)
    file.take(0, DATA, True)
    assert file.finish(lasting=False).read_bytes() == DATA
    again = receiver(path.with_name("other"))
    again.take(0, DATA[::-1], True)
    with refused(ErrorCode.FILE_DIGEST_MISMATCH):
        again.finish(lasting=False)
