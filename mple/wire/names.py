"""Names of what a consortium may choose for the wire; settings, codecs and tests share them, and none needs torch.

Nor protobuf: a system from elsewhere that is compared with ours reads our settings beside another version of it.
"""

CODECS = ("f32", "f16", "q8", "q7", "q6", "q5", "q4")
"""Of morphed samples, those of the contract; see `mple.wire.codecs`."""
LAYER_DTYPES = ("int8", "f16", "f32")
"""Of augmented layers' weights, see `mple.wire.layer_dtype`."""
