"""Records of the cache: their bytes are a contract, what was packed comes back, what is damaged never does."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from mple.model.settings import TaskKind
from mple.records.cache_cipher import CacheCipher, CacheError
from mple.records.cache_records import CacheRecord, CacheShape, file_records, pack_record
from mple.v1 import common_pb2
from mple.wire.batch import NO_LABELS, Batch
from mple.wire.codec import EncodedSamples
from mple.wire.codecs import codec_named
from mple.wire.label_form import LabelForm
from tests.support.small_plan import CACHE_SECRET, small_plan

TRAIN, VAL, TEST = common_pb2.SPLIT_TRAIN, common_pb2.SPLIT_VAL, common_pb2.SPLIT_TEST
CIPHER = CacheCipher(CACHE_SECRET)
SHAPE = CacheShape(codec=codec_named("q8"), blocks=3, values=12, train=20, test=10)


def record_of(shape: CacheShape, split: common_pb2.Split, *numbers: int, key: int = 1) -> CacheRecord:
    """Of samples whose exponents and codes count up from their number."""
    numbers_B = np.array(numbers, np.int64)
    codes_BV = (numbers_B[:, None] + np.arange(shape.values)).astype(shape.codec.code_dtype)
    exponents_BK = (numbers_B[:, None] + np.arange(shape.blocks * shape.codec.block_exponents)).astype(np.uint8)
    labels_B = (numbers_B % 3 if split == TRAIN else numbers_B[:0]).astype(np.uint16)
    return pack_record(CIPHER, shape, split, numbers_B, Batch(EncodedSamples(codes_BV, exponents_BK), labels_B), key)


def test_the_bytes_of_a_record() -> None:
    """Golden: a newer program must go on with the file of an older one."""
    record, salt = record_of(SHAPE, TRAIN, 2, 5, key=7), CIPHER.head[4:20]
    derived = HKDF(SHA256(), length=48, salt=salt, info=b"mple/v1/cache").derive(CACHE_SECRET)
    assert CIPHER.head == b"MPC3" + salt + derived[32:]
    fields = bytes([1, 3]) + struct.pack("<HIIH", 7, 2, 3 + 12, 0)
    assert (TRAIN, common_pb2.CODEC_Q8) == (1, 3)
    nonce, aead = record.content[14:26], AESGCM(derived[:32])
    nonces = [nonce[:8] + struct.pack(">I", (struct.unpack(">I", nonce[8:])[0] + i) % 2**32) for i in range(3)]
    numbers = struct.pack("<IIHH", 2, 5, 2, 2)
    rows = [bytes(range(n, n + 3)) + bytes(range(n, n + 12)) for n in (2, 5)]
    assert record.content == fields + nonce + aead.encrypt(nonces[0], numbers, fields) + b"".join(
        aead.encrypt(one, row, None) for one, row in zip(nonces[1:], rows, strict=True)
    )


def test_labels_lie_a_byte_each_between_numbers_and_codes(tmp_path: Path) -> None:
    shape = replace(SHAPE, labels=LabelForm(TaskKind.LABELS, 5))
    labels_B = np.array([[0, 1, 255, 0, 1], [1, 1, 0, 255, 255]], np.uint8)
    coded = EncodedSamples(np.arange(24, dtype=np.int8).reshape(2, 12), np.arange(6, dtype=np.uint8).reshape(2, 3))
    record = pack_record(CIPHER, shape, TRAIN, np.array([4, 9]), Batch(coded, labels_B), 3)
    about = CIPHER.opened(record.content[14:26], record.content[26 : 26 + 18 + 16], record.content[:14])
    assert about == struct.pack("<II", 4, 9) + labels_B.tobytes()
    path = tmp_path / "cache"
    path.write_bytes(CIPHER.head + record.content + record_of(shape, TEST, 3).content)
    found, tested = file_records(shape, path, CACHE_SECRET, 1)
    assert found.labels_B.tolist() == labels_B.tolist()
    assert shape.coded(found.rows_BS).codes_BV.tolist() == coded.codes_BV.tolist()
    assert tested.labels_B.size == 0


def test_codes_behind_the_leading_ones_take_a_byte_each(tmp_path: Path) -> None:
    """Golden, of a transform codec: eight codes of ten are wide, or all where one behind is beyond a byte."""
    shape = CacheShape(codec=codec_named("k6"), blocks=2, values=40, train=20, test=10)
    codes_BV = np.array([[-300, 2, 3, 4, 5, 6, 7, 8, 9, -128, 30_000, 12, 13, 14, 15, 16, 17, 18, -19, 127]], np.int16)
    rows = [[], []]
    for number, (changed, kept) in enumerate([({}, 2 * (16 + 2)), ({9: -129}, 2 * 20)]):
        codes_BV[0, list(changed)] = list(changed.values())
        coded = EncodedSamples(codes_BV.copy(), np.empty((1, 0), np.uint8))
        record = pack_record(CIPHER, shape, TEST, np.array([4]), Batch(coded, NO_LABELS), 3)
        assert struct.unpack_from("<IH", record.content, 8) == (kept, 8 if number == 0 else 10)
        rows[number] = [CIPHER.opened(record.nonces[0], record.content[-kept - 16 :]), codes_BV[0].tolist()]
        path = tmp_path / "cache"
        path.write_bytes(CIPHER.head + record.content)
        (found,) = file_records(shape, path, CACHE_SECRET, 1)
        assert shape.coded(found.rows_BS).codes_BV.tolist() == codes_BV.tolist()
    first = [-300, *range(2, 9), 30_000, *range(12, 19)]
    assert rows[0][0] == struct.pack("<16h4b", *first, 9, -128, -19, 127)
    assert rows[1][0] == struct.pack("<20h", *rows[1][1])


@given(
    codec=st.sampled_from(["f32", "f16", "q6", "q8"]),
    batches=st.lists(
        st.tuples(
            st.sampled_from([TRAIN, TEST]),
            st.lists(st.integers(0, 9), min_size=1, unique=True),
            st.integers(0, 65535),
        ),
        max_size=4,
    ),
)
def test_what_was_packed_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    codec: str,
    batches: list[tuple[common_pb2.Split, list[int], int]],
) -> None:
    path, shape = tmp_path_factory.mktemp("cache") / "cache", replace(SHAPE, codec=codec_named(codec))
    packed = [record_of(shape, split, *numbers, key=key) for split, numbers, key in batches]
    path.write_bytes(CIPHER.head + b"".join(record.content for record in packed))
    for record, found in zip(packed, file_records(shape, path, CACHE_SECRET, 4), strict=True):
        assert (found.split, found.key, found.content) == (record.split, record.key, record.content)
        assert found.numbers_B.tolist() == record.numbers_B.tolist()
        assert found.labels_B.tolist() == record.labels_B.tolist()
        coded = shape.coded(found.rows_BS)
        assert coded.codes_BV[:, 0].tolist() == record.numbers_B.tolist()
        assert coded.exponents_BK.shape == (len(found.numbers_B), 3 * shape.codec.block_exponents)


def test_reading_ends_before_what_is_torn_or_damaged(tmp_path: Path) -> None:
    path, first, second = tmp_path / "cache", record_of(SHAPE, TRAIN, 1, 2), record_of(SHAPE, TEST, 3)
    whole = CIPHER.head + first.content + second.content
    for size in range(len(whole) - len(second.content), len(whole)):
        path.write_bytes(whole[:size])
        assert [record.split for record in file_records(SHAPE, path, CACHE_SECRET, 4)] == [TRAIN]
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert [record.split for record in file_records(SHAPE, path, CACHE_SECRET, 4)] == [TRAIN]


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        (replace(SHAPE, codec=codec_named("f16")), "another codec or image shape"),
        (replace(SHAPE, values=13), "another codec or image shape"),
        (replace(SHAPE, train=2), "samples that the plan does not have"),
    ],
)
def test_another_plans_records_are_refused(tmp_path: Path, shape: CacheShape, reason: str) -> None:
    path = tmp_path / "cache"
    path.write_bytes(CIPHER.head + record_of(SHAPE, TRAIN, 1, 2).content)
    with pytest.raises(CacheError, match=reason):
        list(file_records(shape, path, CACHE_SECRET, 4))


def test_a_plan_gives_the_shape() -> None:
    plan = small_plan(vals={"south": 7})
    shape = CacheShape.of(plan)
    assert (shape.codec.name, shape.blocks, shape.values) == (plan.wire.codec, plan.geometry.blocks, 64)
    assert shape.sizes == {
        TRAIN: sum(site.train_images for site in plan.sites),
        VAL: 7,
        TEST: sum(site.test_images for site in plan.sites),
    }
