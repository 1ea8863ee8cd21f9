"""The arithmetic of prepared layers, by name; without torch, so that settings may name it."""

from enum import StrEnum


class Arithmetic(StrEnum):
    """How a prepared layer computes; see `mple.model.first_layer.prepared` for what each promises."""

    F32 = "f32"
    BF16 = "bf16"
    INT8 = "int8"
    """Factors of 8 bits in unrolled layers; as `bf16` in tiled ones, which have little to gain."""
