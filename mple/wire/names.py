"""Names of what a consortium may choose for the wire; settings, codecs and tests share them, and none needs torch."""

from mple.v1 import common_pb2

CODECS = tuple(name.removeprefix("CODEC_").lower() for name, number in common_pb2.Codec.items() if number)
"""Of morphed samples, as the contract has them; see `mple.wire.codecs`."""
LAYER_DTYPES = ("int8", "f16", "f32")
"""Of augmented layers' weights, see `mple.wire.layer_dtype`."""
