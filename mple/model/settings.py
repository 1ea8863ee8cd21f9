"""What a consortium decides about its network and its training, each field with range and unit."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mple.model.trunks import TRUNKS
from mple.morph import Arithmetic


class Precision(StrEnum):
    """Arithmetic of the trunk during training."""

    F32 = "f32"
    BF16 = "bf16"


class Augment(StrEnum):
    """How training samples vary from epoch to epoch."""

    NONE = "none"
    FEATURES = "features"
    """The compute node shifts feature maps; nothing more crosses the wire."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSettings:
    """The shared network."""

    trunk: str = "vgg16"
    """Kind of the network behind its first convolution; `vgg16` is the one that there is."""
    width: float = 1.0
    """Factor on all channel counts, 0.0625 to 1; 1 is VGG-16."""
    kernel: int = 3
    """Side of the first convolution's kernels in pixels, odd, 1 to 7."""
    dropout: float = 0.0
    """Share of features dropped before the last layer, 0 to below 1."""
    stem: str = "seed"
    """`seed`: drawn from `stem_seed`; `offered`: the compute node brings a safetensors file."""
    stem_seed: str = "mple-stem-1"
    """Published seed of the first convolution."""

    def __post_init__(self) -> None:
        if self.trunk not in TRUNKS:
            raise ValueError(f"trunk = {self.trunk!r}; choose one of {', '.join(TRUNKS)}")
        if not 0.0625 <= self.width <= 1:
            raise ValueError(f"width = {self.width}; allowed are 0.0625 to 1")
        if self.kernel not in (1, 3, 5, 7):
            raise ValueError(f"kernel = {self.kernel}; allowed are 1, 3, 5 and 7")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout = {self.dropout}; allowed are 0 to below 1")
        if self.stem not in ("seed", "offered"):
            raise ValueError(f"stem = {self.stem!r}; choose seed or offered")

    @property
    def filters(self) -> int:
        """Output channels of the first convolution."""
        return TRUNKS[self.trunk].filters(self.width)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSettings:
    """Stochastic gradient descent with momentum and a one-cycle learning rate."""

    epochs: int = 4
    batch: int = 128
    """Samples of all sites in one step, 2 or more."""
    peak_lr: float = 0.1
    """Highest learning rate of the cycle."""
    warmup_share: float = 0.25
    """Part of all steps in which the learning rate rises, above 0 and below 1."""
    momentum: float = 0.9
    weight_decay: float = 5e-4
    """On weights of convolutions and the last layer only."""
    precision: Precision = Precision.F32
    layer_arithmetic: Arithmetic | None = None
    """Of augmented layers; left out: `f32` with precision f32, `int8` with bf16. `int8` concerns unrolled layers only;
    it takes half the time and memory of `bf16`, and with a codec `q4` to `q8` and `wire.layer = "int8"` rounds nothing
    further. Tiled layers have bf16 then. `f32` is exact and slow."""
    augment: Augment = Augment.NONE
    shift_px: int = 2
    """Largest shift of feature maps along each axis, in pixels, for `augment = "features"`."""
    seed: int = 1
    """Of the order of samples, the first weights, dropout and shifts. Published, not secret."""

    def __post_init__(self) -> None:
        if not 1 <= self.epochs <= 10_000:
            raise ValueError(f"epochs = {self.epochs}; allowed are 1 to 10000")
        if not 2 <= self.batch <= 65_536:
            raise ValueError(f"batch = {self.batch}; allowed are 2 to 65536")
        if not 0 < self.peak_lr <= 10:
            raise ValueError(f"peak_lr = {self.peak_lr}; allowed are above 0 to 10")
        if not 0 < self.warmup_share < 1:
            raise ValueError(f"warmup_share = {self.warmup_share}; allowed are above 0 to below 1")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum = {self.momentum}; allowed are 0 to below 1")
        if not 0 <= self.weight_decay < float("inf"):
            raise ValueError(f"weight_decay = {self.weight_decay}; allowed are 0 and above")
        if self.precision is Precision.F32 and self.layer_arithmetic not in (None, Arithmetic.F32):
            raise ValueError(f"layer_arithmetic = {self.layer_arithmetic} with precision = f32; needs precision = bf16")
        if not 1 <= self.shift_px <= 32:
            raise ValueError(f"shift_px = {self.shift_px}; allowed are 1 to 32")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed = {self.seed}; allowed are 0 to 2^63 - 1")

    @property
    def first_layer(self) -> Arithmetic:
        """Of augmented layers, also where it was left out."""
        return self.layer_arithmetic or (Arithmetic.F32 if self.precision is Precision.F32 else Arithmetic.INT8)
