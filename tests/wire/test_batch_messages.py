"""Batches as messages: golden bytes, a true round trip, and every malformed field refused."""

from __future__ import annotations

import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mple.model.settings import TaskKind
from mple.v1 import common_pb2
from mple.wire.batch import Batch, BatchError, batch_from_message, batch_to_message, samples_per_message
from mple.wire.codec import Codec
from mple.wire.codecs import codec_named
from mple.wire.label_form import LabelForm, permuted_labels, plain_labels
from mple.wire.names import VALUE_CODECS

ALL = [codec_named(name) for name in VALUE_CODECS]
PACKING = [codec for codec in ALL if codec.block_exponents]
each_codec = pytest.mark.parametrize("codec", ALL, ids=lambda codec: codec.name)
each_packing_codec = pytest.mark.parametrize("codec", PACKING, ids=lambda codec: codec.name)
BLOCKS = 2
T_BKQ = np.array([[0.0, 1.0, -0.5, 0.3333333], [-2.54, 0.01, 0.02, 2.0], [0.0, 0.0, -0.0, 0.0]], np.float32).reshape(
    3, BLOCKS, 2
)
KEY_REF = common_pb2.KeyRef(site="north", epoch=2, fingerprint=bytes(range(32)))
LABELS = np.array([3, 0, 9], np.uint16)
NO_LABELS = np.empty(0, np.uint16)
CLASSES = 10
GOLDEN = (
    "0887ad4b122b0a056e6f72746810021a20000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
    "1801200328033004"
    "3a14a6597ed141e2958cf2f421f867fe6ca51f000000"
    "4206030000000900"
)
"""All of a q8 batch but its checksum: fields 1 to 6, then tag 7 with the packed codes, then tag 8 with the labels."""


def message_of(codec: Codec, labels_B: np.ndarray = LABELS) -> common_pb2.MorphedBatch:
    split = common_pb2.SPLIT_TRAIN if labels_B.size else common_pb2.SPLIT_TEST
    batch = Batch(codec.encode(T_BKQ), labels_B)
    return batch_to_message(batch, request_id=1234567, key_ref=KEY_REF, split=split, codec=codec)


def received(message: common_pb2.MorphedBatch, codec: Codec, *, labelled: bool = True, samples: int = 3) -> Batch:
    return batch_from_message(
        message,
        samples=samples,
        blocks=BLOCKS,
        values=4,
        codec=codec,
        labels=LabelForm(TaskKind.CLASSES, CLASSES) if labelled else None,
    )


def sealed(message: common_pb2.MorphedBatch) -> common_pb2.MorphedBatch:
    """The message with a checksum that fits what it holds, as a malicious site would send it."""
    message.crc32c = google_crc32c.value(message.codes + message.labels)
    return message


def test_golden_message() -> None:
    """Field by field by hand but for the packed codes; the last is the checksum over codes and labels."""
    message = message_of(codec_named("q8"))
    checksum = _crc32c_by_hand(message.codes + message.labels)
    expected = GOLDEN + "4d" + checksum.to_bytes(4, "little").hex()
    assert message.SerializeToString(deterministic=True).hex() == expected
    batch = received(common_pb2.MorphedBatch.FromString(bytes.fromhex(expected)), codec_named("q8"))
    assert batch.coded.codes_BV.tolist() == [[0, 32, -16, 11], [-81, 0, 1, 64], [0, 0, 0, 0]]
    assert not batch.coded.exponents_BK.any()


def _crc32c_by_hand(data: bytes) -> int:
    """Castagnoli's polynomial, bit by bit (RFC 3720, appendix B.4)."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


@each_codec
@pytest.mark.parametrize("labels_B", [LABELS, NO_LABELS], ids=["train", "test"])
def test_round_trip(codec: Codec, labels_B: np.ndarray) -> None:
    sent = message_of(codec, labels_B)
    message = common_pb2.MorphedBatch.FromString(sent.SerializeToString())
    batch = received(message, codec, labelled=bool(labels_B.size))
    assert np.array_equal(codec.decode(batch.coded, BLOCKS), codec.decode(codec.encode(T_BKQ), BLOCKS))
    np.testing.assert_array_equal(batch.labels_B, labels_B)
    assert (message.request_id, message.key_ref, message.codec) == (1234567, KEY_REF, codec.wire_id)


@each_codec
def test_another_codec_than_the_plans_is_refused(codec: Codec) -> None:
    for other in ALL:
        if other is not codec:
            with pytest.raises(BatchError, match=f"codec {codec.wire_id} instead of the plan's {other.name}"):
                received(message_of(codec), other)
    for unknown in (common_pb2.CODEC_UNSPECIFIED, 77):
        message = message_of(codec)
        setattr(message, "codec", unknown)  # noqa: B010 - 77 is none of the type's values
        with pytest.raises(BatchError, match="instead of the plan's"):
            received(message, codec)


@each_codec
@given(samples=st.integers(0, 2**32 - 1), values=st.integers(0, 2**32 - 1))
def test_declared_sizes_are_compared_before_anything_is_made(codec: Codec, samples: int, values: int) -> None:
    message = message_of(codec)
    message.samples, message.values_per_sample = samples, values
    if (samples, values) != (3, 4):
        with pytest.raises(BatchError, match=f"{samples} x {values} values instead of 3 x 4"):
            received(message, codec)


@each_codec
@pytest.mark.parametrize("field", ["codes", "labels"])
@pytest.mark.parametrize("change", ["a byte less", "a byte more", "nothing", "twice"])
def test_bytes_that_are_not_there_or_too_many_are_refused(codec: Codec, field: str, change: str) -> None:
    message = message_of(codec)
    there: bytes = getattr(message, field)
    changed = {"a byte less": there[:-1], "a byte more": there + b"\0", "nothing": b"", "twice": there * 2}[change]
    setattr(message, field, changed)
    text = None if field == "codes" and codec.block_exponents else f"{len(changed)} bytes of {field} instead of"
    with pytest.raises(BatchError, match=text) as refused:
        received(sealed(message), codec)
    assert not refused.value.checksum


@each_codec
def test_samples_that_were_not_asked_for_are_refused(codec: Codec) -> None:
    for asked in (0, 2, 4):
        with pytest.raises(BatchError, match=f"3 x 4 values instead of {asked} x 4"):
            received(message_of(codec), codec, samples=asked)


@each_codec
def test_labels_in_the_test_split_and_none_in_the_train_split_are_refused(codec: Codec) -> None:
    with pytest.raises(BatchError, match="bytes of labels"):
        received(message_of(codec, LABELS), codec, labelled=False)
    with pytest.raises(BatchError, match="bytes of labels"):
        received(message_of(codec, NO_LABELS), codec, labelled=True)


@each_codec
@given(data=st.data())
def test_any_flipped_bit_is_seen(codec: Codec, data: st.DataObject) -> None:
    message = message_of(codec)
    field = data.draw(st.sampled_from(["codes", "labels"]))
    damaged = bytearray(getattr(message, field))
    bit = data.draw(st.integers(0, 8 * len(damaged) - 1))
    damaged[bit // 8] ^= 1 << bit % 8
    setattr(message, field, bytes(damaged))
    with pytest.raises(BatchError, match="checksum of request 1234567 differs") as refused:
        received(message, codec)
    assert refused.value.checksum


@each_codec
@given(bit=st.integers(0, 31))
def test_a_flipped_bit_of_the_checksum_is_seen(codec: Codec, bit: int) -> None:
    message = message_of(codec)
    message.crc32c ^= 1 << bit
    with pytest.raises(BatchError) as refused:
        received(message, codec)
    assert refused.value.checksum


NOT_FINITE = [float("nan"), float("inf"), float("-inf")]


@pytest.mark.parametrize("name", ["f32", "f16"])
@pytest.mark.parametrize("value", NOT_FINITE)
@pytest.mark.parametrize("at", [0, 5, 11])
def test_values_that_are_not_finite_are_refused(name: str, value: float, at: int) -> None:
    codec = codec_named(name)
    message = message_of(codec)
    codes = np.frombuffer(message.codes, codec.code_dtype).copy()
    codes[at] = value
    message.codes = codes.tobytes()
    with pytest.raises(BatchError, match="a morphed value is NaN or infinite") as refused:
        received(sealed(message), codec)
    assert not refused.value.checksum


@each_packing_codec
@pytest.mark.parametrize("samples", [0, 1, 2, 4])
def test_packed_codes_of_another_number_of_samples_are_refused(codec: Codec, samples: int) -> None:
    message = message_of(codec)
    more_BKQ = np.tile(T_BKQ, (2, 1, 1))[:samples]
    message.codes = codec.pack(codec.encode(more_BKQ))
    with pytest.raises(BatchError, match=r"packed codes|exponent|class"):
        received(sealed(message), codec)


@each_codec
@given(data=st.data())
def test_what_is_accepted_decodes_to_finite_values(codec: Codec, data: st.DataObject) -> None:
    """Bytes of any length and flipped bits, all with the right checksum: refused as a batch, or sound."""
    message = message_of(codec)
    damaged = bytearray(message.codes)
    for bit in data.draw(st.lists(st.integers(0, 8 * len(damaged) - 1), max_size=3)):
        damaged[bit // 8] ^= 1 << bit % 8
    message.codes = data.draw(st.just(bytes(damaged)) | st.binary(max_size=60))
    try:
        batch = received(sealed(message), codec)
    except BatchError:
        return
    t_BKQ = codec.decode(batch.coded, BLOCKS)
    assert t_BKQ.shape == T_BKQ.shape
    assert np.isfinite(t_BKQ).all()


@each_codec
@given(label=st.integers(0, 2**16 - 1), at=st.integers(0, 2))
def test_labels_are_below_the_number_of_classes(codec: Codec, label: int, at: int) -> None:
    message = message_of(codec)
    labels = np.frombuffer(message.labels, "<u2").copy()
    labels[at] = label
    message.labels = labels.tobytes()
    if label < CLASSES:
        assert received(sealed(message), codec).labels_B[at] == label
    else:
        with pytest.raises(BatchError, match=f"label {label}; the plan has classes 0 to 9"):
            received(sealed(message), codec)


@each_codec
@given(noise=st.binary(max_size=200), cut=st.integers(0, 200))
def test_an_arbitrary_message_is_refused_and_nothing_else_happens(codec: Codec, noise: bytes, cut: int) -> None:
    message = message_of(codec)
    message.codes, message.labels = noise[:cut], noise[cut:]
    with pytest.raises(BatchError) as refused:
        received(message, codec)
    assert refused.value.checksum or len(message.labels) != 6


@pytest.mark.parametrize(
    ("message_bytes", "sample_bytes", "samples"),
    [(16_384, 3088, 5), (16_384, 16_384, 1), (16_384, 16_385, 1), (16_384, 600_000, 1), (1_048_576, 10, 1024)],
)
def test_samples_of_one_message(message_bytes: int, sample_bytes: int, samples: int) -> None:
    """By their size as kept, whatever packing makes of it."""
    assert samples_per_message(message_bytes, sample_bytes) == samples


def test_labels_travel_as_a_byte_each_in_the_permuted_order() -> None:
    """By hand: 0 absent, 1 there, 255 unknown; the checksum covers them, and back come those that were sent."""
    labels, order = np.array([[1, 0, -1], [0, -1, 1], [1, 1, 0]]), np.array([2, 0, 1])
    codec, form = codec_named("q8"), LabelForm(TaskKind.LABELS, 3)
    message = message_of(codec, permuted_labels(labels, order))
    assert list(message.labels) == [255, 1, 0, 1, 0, 255, 0, 1, 1]
    got = batch_from_message(message, samples=3, blocks=BLOCKS, values=4, codec=codec, labels=form)
    assert plain_labels(got.labels_B)[:, np.argsort(order)].tolist() == labels.tolist()


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (bytes((0, 1, 2, 0, 0, 0)), "label 2; a label is 0, 1 or 255"),
        (bytes((0, 1, 254, 0, 0, 0)), "label 254"),
        (bytes(5), "5 bytes of labels instead of 6"),
        (bytes(7), "7 bytes of labels instead of 6"),
        (b"", "0 bytes of labels instead of 6"),
    ],
)
def test_labels_that_can_not_be_are_refused(labels: bytes, text: str) -> None:
    codec = codec_named("f32")
    message = message_of(codec)
    message.labels = labels
    with pytest.raises(BatchError, match=text):
        batch_from_message(
            sealed(message), samples=3, blocks=BLOCKS, values=4, codec=codec, labels=LabelForm(TaskKind.LABELS, 2)
        )
