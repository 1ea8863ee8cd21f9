"""Morphed batches: the bytes of a message, and every way in which one may contradict the plan or itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from mple.v1 import common_pb2
from mple.wire import Batch, BatchError, Codec, batch_from_message, batch_to_message, codec_named

SAMPLES, VALUES, CLASSES = 2, 3, 5
NAMES = ("f32", "f16", "q8")
KEY_REF = common_pb2.KeyRef(site="north", epoch=1, fingerprint=bytes(range(32)))
T_BV = torch.tensor([[0.5, -1.0, 2.0], [0.0, 1.5, -0.25]])
GOLDEN = (
    "0807" "1229" "0a056e6f727468" "1001" "1a20" + bytes(range(32)).hex() + "1801" "2003" "2802" "3003"
    "3a08" "0804813c" "83c1403c" "4206" "20c07f007feb" "4a04" "04000000" "55e1dd8ea1"
)
"""Request 7; key; train split; q8; 2 x 3 values; scales 2/127 and 1.5/127; codes; labels 4 and 0; CRC-32C."""


def crc32c(data: bytes) -> int:
    """CRC-32C bit by bit: polynomial 0x1EDC6F41 reflected, all ones before and after (RFC 3720, appendix B.4)."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def message_for(codec: Codec, *, labelled: bool = True) -> common_pb2.MorphedBatch:
    labels = np.array([4, 0] if labelled else [], np.uint16)
    split = common_pb2.SPLIT_TRAIN if labelled else common_pb2.SPLIT_TEST
    return batch_to_message(
        Batch(codec.encode(T_BV), labels), request_id=7, key_ref=KEY_REF, split=split, codec=codec
    )


def read(message: common_pb2.MorphedBatch, codec: Codec, *, labelled: bool = True) -> Batch:
    return batch_from_message(
        message, samples=SAMPLES, values=VALUES, codec=codec, classes=CLASSES, labelled=labelled
    )


def equal(one: Batch, other: Batch) -> bool:
    return all(
        a.tobytes() == b.tobytes()
        for a, b in (
            (one.coded.scales_B, other.coded.scales_B),
            (one.coded.codes_BV, other.coded.codes_BV),
            (one.labels_B, other.labels_B),
        )
    )


def resealed(message: common_pb2.MorphedBatch) -> common_pb2.MorphedBatch:
    """With the checksum of what it holds: a sender that errs, not a line that does."""
    message.crc32c = crc32c(message.scales + message.codes + message.labels)
    return message


def test_the_checksum_of_this_test_is_crc_32c() -> None:
    assert crc32c(b"123456789") == 0xE3069283


def test_golden_bytes() -> None:
    assert message_for(codec_named("q8")).SerializeToString(deterministic=True).hex() == GOLDEN


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("labelled", [True, False])
def test_a_batch_comes_back(name: str, labelled: bool) -> None:
    codec = codec_named(name)
    wire = message_for(codec, labelled=labelled).SerializeToString()
    message = common_pb2.MorphedBatch.FromString(wire)
    batch = read(message, codec, labelled=labelled)
    assert message.crc32c == crc32c(message.scales + message.codes + message.labels)
    assert batch.labels_B.tolist() == ([4, 0] if labelled else [])
    np.testing.assert_array_equal(codec.decode(batch.coded), codec.decode(codec.encode(T_BV)))


Change = Callable[[common_pb2.MorphedBatch], object]


def put(field: str, value: object) -> Change:
    return lambda message: setattr(message, field, value)


def floats(*values: float, dtype: str = "<f4") -> bytes:
    return np.array(values, dtype).tobytes()


NAN, INF = float("nan"), float("inf")
ANY: dict[str, tuple[Change, str]] = {
    "other codec": (put("codec", common_pb2.CODEC_UNSPECIFIED), "codec 0 instead of the plan's"),
    "unknown codec": (put("codec", 77), "codec 77 instead of the plan's"),
    "fewer samples": (put("samples", 1), "1 x 3 values instead of 2 x 3"),
    "no samples": (put("samples", 0), "0 x 3 values instead of 2 x 3"),
    "very many samples": (put("samples", 2**32 - 1), "4294967295 x 3 values"),
    "very many values": (put("values_per_sample", 2**32 - 1), "2 x 4294967295 values"),
    "no values": (put("values_per_sample", 0), "2 x 0 values"),
    "sizes swapped": (lambda m: (put("samples", 3)(m), put("values_per_sample", 2)(m)), "3 x 2 values"),
    "no codes": (put("codes", b""), "bytes of scales, codes, labels instead of"),
    "codes too short": (lambda m: put("codes", m.codes[:-1])(m), "bytes of scales, codes, labels instead of"),
    "codes too long": (lambda m: put("codes", m.codes + b"\0")(m), "bytes of scales, codes, labels instead of"),
    "no labels": (put("labels", b""), "bytes of scales, codes, labels instead of"),
    "a label too many": (lambda m: put("labels", m.labels + b"\0\0")(m), "bytes of scales, codes, labels"),
    "half a label": (lambda m: put("labels", m.labels[:-1])(m), "bytes of scales, codes, labels"),
    "label out of range": (put("labels", b"\0\0\5\0"), "label 5; the plan has classes 0 to 4"),
    "largest label": (put("labels", b"\xff\xff\0\0"), "label 65535; the plan has classes 0 to 4"),
    "no checksum": (lambda m: None, ""),
}
SCALED: dict[str, tuple[Change, str]] = {
    "no scales": (put("scales", b""), "0, 6, 4 bytes of scales"),
    "a scale too many": (put("scales", floats(1, 1, 1)), "12, 6, 4 bytes of scales"),
    "scale 0": (put("scales", floats(1, 0)), "positive finite"),
    "scale -0": (put("scales", floats(-0.0, 1)), "positive finite"),
    "negative scale": (put("scales", floats(-1, 1)), "positive finite"),
    "scale NaN": (put("scales", floats(NAN, 1)), "positive finite"),
    "scale infinite": (put("scales", floats(1, INF)), "positive finite"),
    "scale that makes infinite values": (put("scales", floats(1, 3e38)), "positive finite"),
}
UNSCALED: dict[str, tuple[Change, str]] = {"scales": (put("scales", floats(1, 1)), "8, .* bytes of scales")}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fault", [fault for fault in ANY if fault != "no checksum"])
def test_what_contradicts_the_plan_is_refused_whatever_its_checksum(name: str, fault: str) -> None:
    change, text = ANY[fault]
    message = message_for(codec_named(name))
    change(message)
    with pytest.raises(BatchError, match=text) as refused:
        read(resealed(message), codec_named(name))
    assert not refused.value.checksum


@pytest.mark.parametrize("fault", SCALED)
def test_bad_scales_are_refused(fault: str) -> None:
    change, text = SCALED[fault]
    message = message_for(codec_named("q8"))
    change(message)
    with pytest.raises(BatchError, match=text):
        read(resealed(message), codec_named("q8"))


@pytest.mark.parametrize("name", ["f32", "f16"])
def test_scales_without_need_are_refused(name: str) -> None:
    message = message_for(codec_named(name))
    message.scales = floats(1, 1)
    with pytest.raises(BatchError, match=r"8, \d+, 4 bytes of scales"):
        read(resealed(message), codec_named(name))


@pytest.mark.parametrize(("name", "dtype"), [("f32", "<f4"), ("f16", "<f2")])
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_values_that_are_no_numbers_are_refused(name: str, dtype: str, value: float) -> None:
    message = message_for(codec_named(name))
    message.codes = floats(0, 1, 2, 3, value, 5, dtype=dtype)
    with pytest.raises(BatchError, match="a morphed value is NaN or infinite"):
        read(resealed(message), codec_named(name))


@pytest.mark.parametrize("name", NAMES)
def test_labels_of_the_test_split_are_refused(name: str) -> None:
    with pytest.raises(BatchError, match=r"bytes of scales, codes, labels instead of \(\d, \d+, 0\)"):
        read(message_for(codec_named(name)), codec_named(name), labelled=False)


@pytest.mark.parametrize("name", NAMES)
def test_the_codec_of_another_plan_is_refused(name: str) -> None:
    for other in set(NAMES) - {name}:
        with pytest.raises(BatchError, match=f"instead of the plan's {other}"):
            read(message_for(codec_named(name)), codec_named(other))


@settings(max_examples=300)
@given(st.sampled_from(NAMES), st.sampled_from(["scales", "codes", "labels", "crc32c"]), st.integers(0, 10_000))
def test_a_flipped_bit_of_the_content_shows_as_damage(name: str, field: str, place: int) -> None:
    codec = codec_named(name)
    message = message_for(codec)
    if field == "crc32c":
        message.crc32c ^= 1 << place % 32
    else:
        content = bytearray(getattr(message, field))
        if not content:
            return
        content[place // 8 % len(content)] ^= 1 << place % 8
        setattr(message, field, bytes(content))
    with pytest.raises(BatchError, match="checksum of request 7 differs") as refused:
        read(message, codec)
    assert refused.value.checksum


@settings(max_examples=400)
@given(st.sampled_from(NAMES), st.integers(0, 10**6))
def test_no_flipped_bit_of_a_whole_message_changes_what_is_kept(name: str, place: int) -> None:
    """Codes, scales and labels stay as they were, or the message is refused; who it is from, its caller checks."""
    codec = codec_named(name)
    content = bytearray(message_for(codec).SerializeToString(deterministic=True))
    content[place // 8 % len(content)] ^= 1 << place % 8
    try:
        batch = read(common_pb2.MorphedBatch.FromString(bytes(content)), codec)
    except (DecodeError, BatchError):
        return
    assert equal(batch, read(message_for(codec), codec))


def test_an_empty_message_is_refused() -> None:
    with pytest.raises(BatchError):
        read(common_pb2.MorphedBatch(), codec_named("q8"))
