"""The few messages of ONNX that a network's file has, in the encoding of protocol buffers.

Written here since the library for it, `onnx`, takes 33 MB of a hospital's installation; the tests have it, and compare
byte by byte. Numbers of fields are those of `onnx.proto`, which never change. A message is a list of parts, and what
it consists of is joined once, at the end: weights are not copied for each message that they lie within.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from struct import pack
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Message: TypeAlias = list[bytes | memoryview]
"""The bytes of a message, in parts."""
FLOAT, UINT8 = 1, 2
"""Types of a tensor's values."""
_INT64 = 7
_OF_FLOAT, _OF_INT, _OF_INTS = 1, 2, 7
"""Types of an attribute."""


def node(operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: float | list[int]) -> Message:
    """A `NodeProto`; its attributes are whole numbers, lists of these, or floats."""
    return [
        *_each(1, inputs),
        *_each(2, outputs),
        *_text(4, operator),
        *(part for name in sorted(attributes) for part in _message(5, _attribute(name, attributes[name]))),
    ]


def tensor(name: str, values: NDArray[np.float32]) -> Message:
    """A `TensorProto` of float32 values; they must not change until the file is written."""
    raw = np.ascontiguousarray(values, "<f4")
    parts = [*(part for size in values.shape for part in _int(1, size)), *_int(2, FLOAT), *_text(8, name)]
    return [*parts, *_message(9, [raw.reshape(-1).view(np.uint8).data])]


def value(name: str, kind: int, sides: Iterable[int | str]) -> Message:
    """A `ValueInfoProto`: an input or output of a type, whose sides are numbers, or names where they are free."""
    dimensions: Message = []
    for side in sides:
        dimensions += _message(1, _text(2, side) if isinstance(side, str) else _int(1, side))
    shaped = [*_int(1, kind), *_message(2, dimensions)]
    return [*_text(1, name), *_message(2, _message(1, shaped))]


def graph(
    name: str,
    nodes: Iterable[Message],
    tensors: Iterable[Message],
    inputs: Iterable[Message],
    outputs: Iterable[Message],
) -> Message:
    """A `GraphProto`."""
    parts: Message = []
    for one in nodes:
        parts += _message(1, one)
    parts += _text(2, name)
    for number, kinds in ((5, tensors), (11, inputs), (12, outputs)):
        for one in kinds:
            parts += _message(number, one)
    return parts


def model(whole: Message, *, opset: int, version: int, producer: str, metadata: Mapping[str, str]) -> bytes:
    """A `ModelProto` as it stands in a file.

    Args:
        whole: Its graph.
        opset: Version of the operators.
        version: Of the format.
        producer: Name of the program.
        metadata: Texts that it carries.
    """
    parts = [
        *_int(1, version),
        *_text(2, producer),
        *_message(7, whole),
        *_message(8, [*_text(1, ""), *_int(2, opset)]),
    ]
    for name, text in metadata.items():
        parts += _message(14, [*_text(1, name), *_text(2, text)])
    return b"".join(parts)


def _attribute(name: str, what: float | list[int]) -> Message:
    parts = _text(1, name)
    if isinstance(what, list):
        parts += [*(part for one in what for part in _int(8, one)), *_int(20, _OF_INTS)]
    elif isinstance(what, int):
        parts += [*_int(3, what), *_int(20, _OF_INT)]
    else:
        parts += [_key(2, 5), pack("<f", what), *_int(20, _OF_FLOAT)]
    return parts


def _each(field: int, texts: Iterable[str]) -> Message:
    return [part for text in texts for part in _text(field, text)]


def _text(field: int, text: str) -> Message:
    return _message(field, [text.encode()])


def _message(field: int, parts: Message) -> Message:
    return [_key(field, 2), _varint(sum(map(len, parts))), *parts]


def _int(field: int, number: int) -> Message:
    return [_key(field, 0), _varint(number)]


@cache
def _key(field: int, kind: int) -> bytes:
    return _varint(field << 3 | kind)


@lru_cache(maxsize=1024)
def _varint(number: int) -> bytes:
    """Seven bits at a time, the lowest first; the highest bit of a byte says that more follow. Negative ones: never."""
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)
