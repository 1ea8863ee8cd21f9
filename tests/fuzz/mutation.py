"""A structure-aware mutator: from valid messages to such as a hostile peer would send. Driven by one seeded generator.

Mutations go in by reflection (a field dropped, doubled, swapped, set to a boundary; a oneof switched; an enum value
that does not exist) and by bytes (bits flipped, lengths that lie, truncation, nesting, unknown fields). A batch whose
bytes were changed gets a right checksum half of the time, so that what lies behind the checksum is reached, too.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import google_crc32c
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from mple.v1 import common_pb2

INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
}
FLOATS = (float("nan"), float("inf"), float("-inf"), 0.0, -0.0, -1.0, 5e-324, 1.7e308, -1.7e308, 1e-45)
STRINGS = ("", "\0", "../../etc/passwd", "site/north", "north" * 2000, "\u202e\U0001f9ec", "'; DROP TABLE parties;--")
_MOST_BYTES = 3 * 1024 * 1024


class Mutator:
    """Makes hostile messages of valid ones."""

    def __init__(self, generator: random.Random) -> None:
        self._draw = generator

    def mutated(self, seed: Message, others: list[Message]) -> bytes:
        """The bytes of a message that differs from the seed in one to four places, rarely in none.

        Args:
            seed: A valid message; it is not changed.
            others: Messages of any type, whose parts may be put in.
        """
        draw = self._draw
        message = type(seed)()
        message.CopyFrom(seed)
        for _ in range(draw.choice((0, 1, 1, 1, 2, 3, 4))):
            self._change(message, others)
        for batch in _batches(message):
            if draw.random() < 0.5:
                batch.crc32c = google_crc32c.value(batch.codes + batch.labels)
        data = message.SerializeToString()
        if draw.random() < 0.35:
            for _ in range(draw.choice((1, 1, 2, 4))):
                data = self._damaged(data)
        return data[:_MOST_BYTES]

    def damaged_file(self, content: bytes) -> bytes:
        """A file with one to three places changed, near its beginning half of the time; its length mostly kept."""
        draw = self._draw
        for _ in range(draw.choice((1, 1, 2, 3))):
            at = draw.randrange(min(len(content), 200) if draw.random() < 0.5 else len(content))
            piece = draw.choice((b"\x00\x00\xc0\x7f", b"\xff" * 8, b"\x00" * 8, draw.randbytes(4), b"}", b"9", b"\x80"))
            content = content[:at] + piece + content[at + len(piece) :]
        return content if draw.random() < 0.8 else self._damaged(content)

    def _change(self, message: Message, others: list[Message]) -> None:
        """Change one field, of the message or of one within it."""
        draw = self._draw
        fields = list(message.DESCRIPTOR.fields)
        if not fields:
            return
        present = [field for field, _ in message.ListFields()]
        field = draw.choice(present if present and draw.random() < 0.8 else fields)
        name = field.name
        if draw.random() < 0.1:
            message.ClearField(name)
        elif _map_value(field) is not None:
            self._change_map(message, field, others)
        elif _repeated(field):
            self._change_repeated(message, field)
        elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            inner = getattr(message, name)
            same = [other for other in _all_within(others) if type(other) is type(inner)]
            if same and draw.random() < 0.2:
                inner.CopyFrom(draw.choice(same))
            else:
                inner.SetInParent()
                self._change(inner, others)
        elif draw.random() < 0.1:
            twins = [other for other in fields if other.cpp_type == field.cpp_type and not _repeated(other)]
            setattr(message, name, self._fitting(field, getattr(message, draw.choice(twins).name)))
        else:
            setattr(message, name, self._scalar(field, getattr(message, name)))

    def _change_repeated(self, message: Message, field: FieldDescriptor) -> None:
        draw = self._draw
        values = list(getattr(message, field.name))
        how = draw.randrange(6)
        if how == 0 and values:
            del values[draw.randrange(len(values))]
        elif how == 1 and values:
            values.append(draw.choice(values))
        elif how == 2:
            draw.shuffle(values)
        elif how == 3 and values:
            values = [draw.choice(values)] * draw.choice((2, 100, 1500, 20_000))
        elif field.cpp_type != FieldDescriptor.CPPTYPE_MESSAGE:
            blank: object = b"" if field.type == FieldDescriptor.TYPE_BYTES else ""
            if field.cpp_type in INTEGERS:
                blank = 0
            values.insert(draw.randrange(len(values) + 1), self._scalar(field, blank))
        message.ClearField(field.name)
        getattr(message, field.name).extend(values)

    def _change_map(self, message: Message, field: FieldDescriptor, others: list[Message]) -> None:
        draw, entries = self._draw, getattr(message, field.name)
        parts = field.message_type.fields_by_name
        key = draw.choice(sorted(entries)) if entries else ""
        is_message = parts["value"].cpp_type == FieldDescriptor.CPPTYPE_MESSAGE
        how = draw.randrange(3)
        if how == 0:
            entries.pop(key, None)
        elif how == 1 and is_message:
            self._change(entries[key], others)
        elif how == 1:
            entries[key] = self._scalar(parts["value"], entries[key])
        elif is_message:
            entries[self._scalar(parts["key"], key)].CopyFrom(entries[key])
        else:
            entries[self._scalar(parts["key"], key)] = entries[key]

    def _scalar(self, field: FieldDescriptor, value: object) -> object:
        draw = self._draw
        kind = field.cpp_type
        if kind in INTEGERS:
            low, high = INTEGERS[kind]
            assert isinstance(value, int)
            near = (value + 1, value - 1, value * 2, 0, 1, 2, 99, 255, 256, 65_535, 65_536, 1_000_000)
            borders = (low, high, low + 1, high - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, draw.getrandbits(20))
            return min(high, max(low, draw.choice(near + borders)))
        if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
            return draw.choice(FLOATS)
        if kind == FieldDescriptor.CPPTYPE_BOOL:
            return not value
        if field.type == FieldDescriptor.TYPE_BYTES:
            assert isinstance(value, bytes)
            return self._bytes(value)
        assert isinstance(value, str)
        return draw.choice((*STRINGS, value + "x", value[1:], value.upper(), value * 2))

    @staticmethod
    def _fitting(field: FieldDescriptor, value: object) -> object:
        """Another field's value, where the two differ in what they can hold."""
        if field.type == FieldDescriptor.TYPE_BYTES and isinstance(value, str):
            return value.encode()
        if field.type == FieldDescriptor.TYPE_STRING and isinstance(value, bytes):
            return value.hex()
        return value

    def _bytes(self, value: bytes) -> bytes:
        draw = self._draw
        how = draw.randrange(8)
        if how == 0:
            return b""
        if how == 1:
            return value[: draw.randrange(len(value) + 1)]
        if how == 2:
            return value + draw.randbytes(draw.choice((1, 2, 32, 5000)))
        if how == 3:
            return draw.randbytes(len(value))
        if how == 4:
            return value + bytes(draw.choice((64 * 1024, 600 * 1024)))
        if how == 5:  # numbers that are none, wherever binary32 is read
            special = draw.choice((b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\xff\xff\xff\xff", b"\x00\x00\x80\xff"))
            at = 4 * draw.randrange(len(value) // 4 + 1)
            return value[:at] + special + value[at + 4 :]
        return self._damaged(value)

    def _damaged(self, data: bytes) -> bytes:
        draw = self._draw
        at = draw.randrange(len(data) + 1)
        end = min(len(data), at + draw.choice((1, 2, 8, 64)))
        changes: tuple[Callable[[], bytes], ...] = (
            lambda: data[:at],
            lambda: data[:at] + data[end:],
            lambda: data[:at] + data[at:end] * 2 + data[end:],
            lambda: data[:at] + draw.randbytes(end - at) + data[end:],
            lambda: data[:at] + bytes(byte ^ (1 << draw.randrange(8)) for byte in data[at:end]) + data[end:],
            lambda: data[:at] + b"\xff" * 9 + b"\x01" + data[at:],  # a varint of its greatest length
            lambda: data + _unknown_field(draw),
            lambda: data + b"\x0b" * draw.choice((1, 99, 5000)),  # groups within groups, none of them closed
            lambda: data + b"\x12\x7f" * draw.choice((1, 99)),  # lengths beyond the end
            lambda: data * 2,
        )
        return draw.choice(changes)()


def _unknown_field(draw: random.Random) -> bytes:
    content = draw.randbytes(draw.choice((0, 3, 1000, 100_000)))
    size, length = len(content), b""
    while size > 127:
        length += bytes((size & 127 | 128,))
        size >>= 7
    return b"\xa2\x1f" + length + bytes((size,)) + content


def _repeated(field: FieldDescriptor) -> bool:
    return bool(field.is_repeated)


def _map_value(field: FieldDescriptor) -> FieldDescriptor | None:
    """The values' field where a field is a map."""
    kind = field.message_type
    return kind.fields_by_name["value"] if kind is not None and kind.GetOptions().map_entry else None


def _all_within(messages: list[Message]) -> list[Message]:
    found = list(messages)
    for message in messages:
        for field, value in message.ListFields():
            of_map = _map_value(field)
            if of_map is not None:
                found.extend(_all_within(list(value.values())) if of_map.message_type is not None else [])
            elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
                found.extend(_all_within(list(value) if _repeated(field) else [value]))
    return found


def _batches(message: Message) -> list[common_pb2.MorphedBatch]:
    return [part for part in _all_within([message]) if isinstance(part, common_pb2.MorphedBatch)]
