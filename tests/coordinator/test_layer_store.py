"""Layer files: uploads that break anywhere and go on, what is refused of them, downloads from any offset.

The store does not look into the bytes, so that any bytes are a layer here.
"""

from __future__ import annotations

import hashlib
import random
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.memory.layer_store import (
    MOST_HEADER_BYTES,
    LayerStore,
    Upload,
    check_begin,
)
from coordinator.memory.state_file import StateFile
from coordinator.plan_maker import layer_weight_bytes
from mple.plan import Custody
from mple.rpc import ErrorCode
from mple.rpc.file_transfer import CHUNK_BYTES
from mple.v1 import coordinator_pb2
from tests.support.small_run import begin_of, chunks_of, header_of, plan_for, refused

PLAN = plan_for()
DATA = random.Random(1).randbytes(10_000)
SHA = hashlib.sha256(DATA).digest()
HEADER = header_of(PLAN, "north", DATA)
OTHER = random.Random(2).randbytes(9_000)


@pytest.fixture
def store(state_file: StateFile, tmp_path: Path) -> LayerStore:
    return LayerStore(state_file, tmp_path / "layers")


def files(store: LayerStore) -> list[str]:
    return sorted(path.name for path in store.path(SHA).parent.iterdir())


def upload(store: LayerStore, data: bytes = DATA, site: str = "north", size: int = 3000) -> Path:
    at = store.begin(header_of(PLAN, site, data))
    stream = store.open_upload(site, hashlib.sha256(data).digest())
    for message in chunks_of(data, at, size):
        stream.take(message)
    return stream.finish()


def released(store: LayerStore, data: bytes = DATA, site: str = "north") -> None:
    upload(store, data, site)
    store.mark_released(hashlib.sha256(data).digest())


def downloaded(store: LayerStore, sha256: bytes = SHA, offset: int = 0) -> bytes:
    messages = list(store.chunks(sha256, offset))
    assert [message.final for message in messages] == [False] * (len(messages) - 1) + [True]
    for message in messages:
        assert message.offset == offset
        offset += len(message.data)
    return b"".join(message.data for message in messages)


def test_upload_in_one_go(store: LayerStore) -> None:
    path = upload(store)
    assert path.read_bytes() == DATA
    assert files(store) == [f"{SHA.hex()}.safetensors"]
    assert path.parent.stat().st_mode & 0o077 == 0
    assert store.begin(HEADER) == len(DATA)


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([1, 999, 1000, 1001, 4000, 20_000]), min_size=1, max_size=4),
    breaks=st.lists(st.integers(0, 8), min_size=1, max_size=4),
)
def test_upload_that_breaks_anywhere_goes_on_where_it_was(sizes: list[int], breaks: list[int]) -> None:
    """Stream number i has chunks of sizes[i] and breaks after breaks[i] of them; the last one goes through."""
    with tempfile.TemporaryDirectory() as folder, StateFile(Path(folder)) as file:
        written = 0
        for size, after in zip(sizes, breaks, strict=False):
            store = LayerStore(file, Path(folder) / "layers")  # a coordinator that has started again knows no writer
            at = store.begin(HEADER)
            assert at == written
            stream = store.open_upload("north", SHA)
            for _, message in zip(range(after), chunks_of(DATA, at, size), strict=False):
                stream.take(message)
                written = message.offset + len(message.data)
            if written < len(DATA):
                with refused(ErrorCode.STREAM_TRUNCATED):
                    stream.finish()
        assert upload(store).read_bytes() == DATA


@pytest.mark.parametrize("size", [1, CHUNK_BYTES])
def test_smallest_and_largest_chunks(store: LayerStore, size: int) -> None:
    data = random.Random(3).randbytes(CHUNK_BYTES + 5 if size > 1 else 9)
    assert upload(store, data, size=size).read_bytes() == data


def test_later_upload_takes_over_and_the_older_writes_no_more(store: LayerStore) -> None:
    store.begin(HEADER)
    older = store.open_upload("north", SHA)
    older.take(coordinator_pb2.UploadLayerRequest(data=DATA[:4000]))
    newer = store.open_upload("north", SHA)
    with refused(ErrorCode.FILE_OFFSET, "another upload"):
        older.take(coordinator_pb2.UploadLayerRequest(offset=4000, data=DATA[4000:5000]))
    newer.take(coordinator_pb2.UploadLayerRequest(offset=4000, data=DATA[4000:], final=True))
    assert newer.finish().read_bytes() == DATA


def test_older_upload_that_is_whole_gives_no_name_to_what_a_newer_one_began(store: LayerStore) -> None:
    store.begin(HEADER)
    older = store.open_upload("north", SHA)
    older.take(coordinator_pb2.UploadLayerRequest(data=DATA, final=True))
    store.begin(header_of(PLAN, "north", OTHER))
    store.begin(HEADER)
    newer = store.open_upload("north", SHA)
    newer.take(coordinator_pb2.UploadLayerRequest(data=DATA[:100]))
    with refused(ErrorCode.FILE_OFFSET, "another upload"):
        older.finish()
    assert store.begin(HEADER) == 100


def test_uploads_of_many_sites_at_once(store: LayerStore) -> None:
    contents = {site: random.Random(site).randbytes(200_000) for site in ("north", "south", "west")}
    paths: dict[str, Path] = {}

    def send(site: str) -> None:
        paths[site] = upload(store, contents[site], site, size=1000)

    threads = [threading.Thread(target=send, args=(site,)) for site in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {site: path.read_bytes() for site, path in paths.items()} == contents


def test_layer_must_be_announced_and_the_sites_own(store: LayerStore) -> None:
    with refused(ErrorCode.FILE_OFFSET, "begin it first"):
        store.open_upload("north", SHA)
    store.begin(HEADER)
    with refused(ErrorCode.UNKNOWN_KEY_REF, "not one of site south"):
        store.open_upload("south", SHA)
    with refused(ErrorCode.LAYER_REJECTED, "another site has announced a layer of the same bytes"):
        store.begin(header_of(PLAN, "south", DATA))


def test_another_layer_takes_the_place_of_one_that_is_not_released(store: LayerStore) -> None:
    store.begin(HEADER)
    stream = store.open_upload("north", SHA)
    stream.take(coordinator_pb2.UploadLayerRequest(data=DATA[:5000]))
    assert store.begin(header_of(PLAN, "north", OTHER)) == 0
    assert files(store) == []
    with refused(ErrorCode.FILE_OFFSET):
        stream.take(coordinator_pb2.UploadLayerRequest(offset=5000, data=DATA[5000:]))
    assert upload(store, OTHER).read_bytes() == OTHER


def test_corrected_size_of_the_same_digest_begins_anew(store: LayerStore) -> None:
    wrong = coordinator_pb2.LayerHeader()
    wrong.CopyFrom(HEADER)
    wrong.total_bytes -= 1
    store.begin(wrong)
    assert upload(store).read_bytes() == DATA


def test_released_layer_stays(store: LayerStore) -> None:
    released(store)
    with refused(ErrorCode.LAYER_REJECTED, "already released, and this is another"):
        store.begin(header_of(PLAN, "north", OTHER))
    assert store.begin(HEADER) == len(DATA)
    assert upload(store).read_bytes() == DATA
    store.reject(hashlib.sha256(OTHER).digest())
    assert downloaded(store) == DATA


def test_layer_that_gave_way_is_not_released(store: LayerStore) -> None:
    upload(store)
    store.begin(header_of(PLAN, "north", OTHER))
    with refused(ErrorCode.FILE_OFFSET, "announced another layer meanwhile"):
        store.mark_released(SHA)
    stored = store.of_key("north", 1)
    assert stored is not None
    assert not stored.released


def test_rejected_layer_is_gone_and_another_may_follow(store: LayerStore) -> None:
    upload(store)
    store.reject(SHA)
    assert files(store) == []
    assert store.of_key("north", 1) is None
    assert upload(store, OTHER).read_bytes() == OTHER
    assert store.begin(HEADER) == 0


def test_first_released_is_told_from_later_ones(store: LayerStore) -> None:
    assert store.first_released() is None
    upload(store)
    released(store, OTHER, "south")
    store.mark_released(SHA)
    first = store.first_released()
    assert first is not None
    assert first.header.key_ref.site == "south"


def test_layer_built_here_is_adopted(store: LayerStore) -> None:
    path = store.building("north")
    path.write_bytes(DATA)
    store.adopt(HEADER, path)
    assert store.path(SHA).read_bytes() == DATA
    assert not path.exists()
    assert store.begin(HEADER) == len(DATA)


@pytest.mark.parametrize("offset", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES])
def test_download_from_any_offset(store: LayerStore, offset: int) -> None:
    data = random.Random(4).randbytes(2 * CHUNK_BYTES)
    released(store, data)
    assert downloaded(store, hashlib.sha256(data).digest(), offset) == data[offset:]


def test_download_beyond_the_end_is_refused(store: LayerStore) -> None:
    released(store)
    with refused(ErrorCode.FILE_OFFSET, "offset 10001 of a file of 10000"):
        downloaded(store, offset=10_001)


def test_only_released_layers_are_given_out(store: LayerStore) -> None:
    for step in (lambda: None, lambda: store.begin(HEADER), lambda: upload(store)):
        step()
        with refused(ErrorCode.UNKNOWN_KEY_REF, f"no released layer has the digest {SHA.hex()[:16]}"):
            downloaded(store)


def test_begin_checks_what_is_announced() -> None:
    honest = bytes(layer_weight_bytes(PLAN)[1] + 100)
    check_begin(PLAN, "north", begin_of(PLAN, "north", honest))
    escrow = plan_for(custody=Custody.ESCROW)
    with refused(ErrorCode.LAYER_REJECTED, "the coordinator builds the layers"):
        check_begin(escrow, "north", begin_of(escrow, "north", honest))


@pytest.mark.parametrize("surplus", [-1, 0, MOST_HEADER_BYTES + 1, 2**40])
def test_size_that_the_plan_excludes_is_refused(surplus: int) -> None:
    request = begin_of(PLAN, "north", b"")
    request.header.total_bytes = layer_weight_bytes(PLAN)[1] + surplus
    with refused(ErrorCode.LAYER_REJECTED, f"layer file of {request.header.total_bytes} bytes"):
        check_begin(PLAN, "north", request)


@pytest.mark.parametrize("plan_sha256", [b"", bytes(32)])
def test_other_plan_is_refused(plan_sha256: bytes) -> None:
    request = begin_of(PLAN, "north", bytes(layer_weight_bytes(PLAN)[1] + 100))
    request.plan_sha256 = plan_sha256
    with refused(ErrorCode.PLAN_HASH_MISMATCH, PLAN.sha256().hex()[:16]):
        check_begin(PLAN, "north", request)


def test_other_keys_and_digests_are_refused() -> None:
    honest = begin_of(PLAN, "north", bytes(layer_weight_bytes(PLAN)[1] + 100))
    with refused(ErrorCode.UNKNOWN_KEY_REF, "site south announces a layer of 'north', epoch 1"):
        check_begin(PLAN, "south", honest)
    for field, value in (("epoch", 2), ("fingerprint", bytes(32))):
        request = coordinator_pb2.BeginLayerRequest()
        request.CopyFrom(honest)
        setattr(request.header.key_ref, field, value)
        with refused(ErrorCode.UNKNOWN_KEY_REF, "its key in the plan is another"):
            check_begin(PLAN, "north", request)
    honest.header.sha256 = bytes(31)
    with refused(ErrorCode.LAYER_REJECTED, "digest of 31 bytes"):
        check_begin(PLAN, "north", honest)


def test_two_uploads_that_are_whole_at_once_agree(store: LayerStore) -> None:
    store.begin(HEADER)
    first = store.open_upload("north", SHA)
    first.take(coordinator_pb2.UploadLayerRequest(data=DATA, final=True))
    second: Upload = store.open_upload("north", SHA)
    second.take(coordinator_pb2.UploadLayerRequest(offset=len(DATA), final=True))
    assert second.finish() == first.finish() == store.path(SHA)


@pytest.mark.parametrize("damage", ["bit", "cut", "gone", "swapped"])
def test_a_damaged_layer_is_noticed_before_its_first_use_and_wanted_from_its_beginning(
    state_file: StateFile, tmp_path: Path, damage: str
) -> None:
    store = LayerStore(state_file, tmp_path / "layers")
    released(store)
    assert store.whole(SHA)
    path = store.path(SHA)
    changed = {"bit": DATA[:-1] + bytes([DATA[-1] ^ 1]), "cut": DATA[:-1], "swapped": OTHER}
    path.write_bytes(changed.get(damage, b""))
    if damage == "gone":
        path.unlink()
    again = LayerStore(state_file, tmp_path / "layers")
    assert again.begin(HEADER) == 0, "the site that sends it again begins at its beginning"
    assert not again.whole(SHA)
    assert again.first_released() is None, "it is no reference for others"
    assert not path.exists()
    upload(again)
    assert again.whole(SHA)
    assert downloaded(again) == DATA
