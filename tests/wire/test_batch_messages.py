"""Batches as messages: golden bytes, a true round trip, and every malformed field refused."""

from __future__ import annotations

import google_crc32c
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mple.v1 import common_pb2
from mple.wire import Batch, BatchError, Codec, batch_from_message, batch_to_message, codec_named

CODECS = [codec_named(name) for name in ("f32", "f16", "q8")]
each_codec = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
VALUES = torch.tensor([[0.0, 1.0, -0.5, 0.3333333], [-2.54, 0.01, 0.02, 2.0], [0.0, 0.0, -0.0, 0.0]])
KEY_REF = common_pb2.KeyRef(site="north", epoch=2, fingerprint=bytes(range(32)))
LABELS = np.array([3, 0, 9], np.uint16)
NO_LABELS = np.empty(0, np.uint16)
CLASSES = 10
GOLDEN = (
    "0887ad4b122b0a056e6f72746810021a20000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
    "1801200328033004"
    "3a0c0402013c0ad7a33c0000803f"
    "420c007fc02a8100016400000000"
    "4a06030000000900"
)
"""All of a q8 batch but its checksum."""


def message_of(codec: Codec, labels_B: np.ndarray = LABELS) -> common_pb2.MorphedBatch:
    split = common_pb2.SPLIT_TRAIN if labels_B.size else common_pb2.SPLIT_TEST
    batch = Batch(codec.encode(VALUES), labels_B)
    return batch_to_message(batch, request_id=1234567, key_ref=KEY_REF, split=split, codec=codec)


def received(message: common_pb2.MorphedBatch, codec: Codec, *, labelled: bool = True, samples: int = 3) -> Batch:
    return batch_from_message(message, samples=samples, values=4, codec=codec, classes=CLASSES, labelled=labelled)


def sealed(message: common_pb2.MorphedBatch) -> common_pb2.MorphedBatch:
    """The message with a checksum that fits what it holds, as a malicious site would send it."""
    message.crc32c = google_crc32c.value(message.scales + message.codes + message.labels)
    return message


def test_golden_message() -> None:
    """Field by field by hand; the last is the checksum over scales, codes and labels."""
    message = message_of(codec_named("q8"))
    checksum = _crc32c_by_hand(message.scales + message.codes + message.labels)
    expected = GOLDEN + "55" + checksum.to_bytes(4, "little").hex()
    assert message.SerializeToString(deterministic=True).hex() == expected
    assert received(common_pb2.MorphedBatch.FromString(bytes.fromhex(expected)), codec_named("q8"))


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
    assert torch.equal(codec.decode(batch.coded), codec.decode(codec.encode(VALUES)))
    np.testing.assert_array_equal(batch.labels_B, labels_B)
    assert (message.request_id, message.key_ref, message.codec) == (1234567, KEY_REF, codec.wire_id)


@each_codec
def test_another_codec_than_the_plans_is_refused(codec: Codec) -> None:
    for other in CODECS:
        if other is not codec:
            with pytest.raises(BatchError, match=f"codec {codec.wire_id} instead of the plan's {other.name}"):
                received(message_of(codec), other)
    for unknown in (common_pb2.CODEC_UNSPECIFIED, 77):
        message = message_of(codec)
        message.codec = unknown
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
@pytest.mark.parametrize("field", ["scales", "codes", "labels"])
@pytest.mark.parametrize("change", ["a byte less", "a byte more", "nothing", "twice"])
def test_bytes_that_are_not_there_or_too_many_are_refused(codec: Codec, field: str, change: str) -> None:
    message = message_of(codec)
    there: bytes = getattr(message, field)
    changed = {"a byte less": there[:-1], "a byte more": there + b"\0", "nothing": b"", "twice": there * 2}[change]
    if changed == there:
        return  # a codec without scales
    setattr(message, field, changed)
    with pytest.raises(BatchError, match="bytes of scales, codes, labels instead of") as refused:
        received(sealed(message), codec)
    assert not refused.value.checksum


@each_codec
def test_samples_that_were_not_asked_for_are_refused(codec: Codec) -> None:
    for asked in (0, 2, 4):
        with pytest.raises(BatchError, match=f"3 x 4 values instead of {asked} x 4"):
            received(message_of(codec), codec, samples=asked)


@each_codec
def test_labels_in_the_test_split_and_none_in_the_train_split_are_refused(codec: Codec) -> None:
    with pytest.raises(BatchError, match="bytes of scales, codes, labels"):
        received(message_of(codec, LABELS), codec, labelled=False)
    with pytest.raises(BatchError, match="bytes of scales, codes, labels"):
        received(message_of(codec, NO_LABELS), codec, labelled=True)


@each_codec
@given(data=st.data())
def test_any_flipped_bit_is_seen(codec: Codec, data: st.DataObject) -> None:
    message = message_of(codec)
    field = data.draw(st.sampled_from([name for name in ("scales", "codes", "labels") if getattr(message, name)]))
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


@pytest.mark.parametrize("scale", [*NOT_FINITE, 0.0, -0.0, -1.0, -1e-45, 3.4e38, 2.7e36])
@pytest.mark.parametrize("at", [0, 2])
def test_scales_that_are_no_scales_are_refused(scale: float, at: int) -> None:
    """2.7e36 is finite, but 127 steps of it are not in float32."""
    codec = codec_named("q8")
    message = message_of(codec)
    scales = np.frombuffer(message.scales, "<f4").copy()
    scales[at] = scale
    message.scales = scales.tobytes()
    with pytest.raises(BatchError, match="a scale is not a positive finite number"):
        received(sealed(message), codec)


@given(
    scale=st.floats(0, float(np.finfo(np.float32).max), width=32, exclude_min=True),
    codes=st.binary(min_size=12, max_size=12),
)
def test_what_is_accepted_decodes_to_finite_values(scale: float, codes: bytes) -> None:
    codec = codec_named("q8")
    message = message_of(codec)
    message.scales, message.codes = np.full(3, scale, "<f4").tobytes(), codes
    try:
        batch = received(sealed(message), codec)
    except BatchError:
        assert scale > 2.6e36
    else:
        assert bool(torch.isfinite(codec.decode(batch.coded)).all())


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


@given(st.binary(max_size=200))
def test_an_arbitrary_message_is_refused_and_nothing_else_happens(noise: bytes) -> None:
    message = message_of(codec_named("q8"))
    message.scales, message.codes, message.labels = noise[:12], noise[12:24], noise[24:]
    with pytest.raises(BatchError):
        received(message, codec_named("q8"))
