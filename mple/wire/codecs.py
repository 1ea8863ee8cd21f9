"""All codecs by their names in a plan."""

from mple.v1 import common_pb2
from mple.wire.block_codec import BlockCodec
from mple.wire.codec import Codec, FloatCodec
from mple.wire.names import TRANSFORM_CODECS
from mple.wire.transform_codec import TransformCodec

_CODECS: dict[str, Codec] = {
    codec.name: codec
    for codec in (
        FloatCodec("f32", common_pb2.CODEC_F32, "<f4"),
        FloatCodec("f16", common_pb2.CODEC_F16, "<f2"),
        *map(BlockCodec, (8, 7, 6, 5, 4)),
        *map(TransformCodec, TRANSFORM_CODECS),
    )
}


def codec_named(name: str) -> Codec:
    """The codec of a plan's `wire.codec`. Raises ValueError: there is no such codec."""
    try:
        return _CODECS[name]
    except KeyError:
        raise ValueError(f"codec = {name!r}; choose one of {', '.join(_CODECS)}") from None
