"""Names of what a consortium may choose for the wire; settings, codecs and tests share them, and none needs torch.

Nor protobuf: a system from elsewhere that is compared with ours reads our settings beside another version of it.
"""

import math

VALUE_CODECS = ("f32", "f16", "q8", "q7", "q6", "q5", "q4")
"""Of morphed values as they are."""
TRANSFORM_CODECS = ("k8", "k7.5", "k7", "k6.5", "k6", "k5.5", "k5", "k4.5", "k4", "k3.5", "k3")
"""Of coefficients under a basis that a site fits to its own morphed blocks; for orthogonal cores."""
CODECS = VALUE_CODECS + TRANSFORM_CODECS
"""Of morphed samples, those of the contract; see `mple.wire.codecs`."""
LAYER_DTYPES = ("int8", "f16", "f32")
"""Of augmented layers' weights, see `mple.wire.layer_dtype`."""
LAYER_FORMS = ("coded", *LAYER_DTYPES)
"""What `wire.layer` may be; `coded` is for layers for coefficients, see `mple.wire.coded_layer`."""


def value_codec(name: str) -> str:
    """The codec itself; for a transform codec the one of values as they are with the next finer step, `q4` at least."""
    if name not in TRANSFORM_CODECS:
        return name
    return f"q{max(4, math.ceil(float(name[1:])))}"
