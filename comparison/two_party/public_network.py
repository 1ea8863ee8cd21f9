"""What the server tells the client about its network: the form of every stage, and nothing of weights.

Private inference hides the picture from the server and the weights from the client; layers, sizes and shifts are known
to both, in GAZELLE and MiniONN as here.

Legend: N pictures, C channels, H W size, O outputs, I instances of a circuit.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

POOLS = ("none", "max", "sum")
_MOST_STAGES = 64
_MOST_SIDE = 64
_MOST_CHANNELS = 65_536


@dataclass(frozen=True, kw_only=True, slots=True)
class StageForm:
    """One stage: a convolution with 'same' padding, or a dense layer as one of 1 x 1 on 1 pixel; and its activation."""

    name: str
    inputs: int
    """Channels in; of a dense layer, all values of the map before, in the order C, H, W."""
    outputs: int
    kernel: int
    side: int
    """Of the maps in and, before pooling, out."""
    shift: int | None
    """Bits that the activation drops; None for the last stage, which has no activation."""
    pool: str
    """"none", "max" (within the activation) or "sum" (behind it), 2 x 2."""

    def __post_init__(self) -> None:
        sizes = (self.inputs, self.outputs, self.kernel, self.side)
        if min(sizes) < 1 or max(self.inputs, self.outputs) > _MOST_CHANNELS or self.side > _MOST_SIDE:
            raise ValueError(f"stage {self.name!r} of {sizes} (inputs, outputs, kernel, side) is out of range")
        if self.pool not in POOLS or self.kernel % 2 == 0 or (self.pool != "none" and self.side % 2):
            raise ValueError(f"stage {self.name!r}: kernel {self.kernel}, pool {self.pool!r}, side {self.side}")
        if self.shift is None and self.pool != "none":
            raise ValueError(f"stage {self.name!r} pools without an activation")
        if self.shift is not None and not 0 <= self.shift < 32:
            raise ValueError(f"stage {self.name!r} shifts by {self.shift} bits")

    @property
    def circuit_side(self) -> int:
        """Of the maps that leave the activation."""
        return self.side // 2 if self.pool == "max" else self.side

    @property
    def side_out(self) -> int:
        """Of the maps that the next stage takes."""
        return self.side // 2 if self.pool != "none" else self.side

    @property
    def window(self) -> int:
        """Values that one instance of the activation takes."""
        return 4 if self.pool == "max" else 1

    @property
    def instances(self) -> int:
        """I, activations of one picture."""
        return 0 if self.shift is None else self.outputs * self.circuit_side**2


@dataclass(frozen=True, kw_only=True, slots=True)
class PublicNetwork:
    """Of all stages, in order."""

    name: str
    input_shape: tuple[int, int, int]
    """C, H, W of a picture."""
    modulus_bits: int
    pixel_offset: int
    """Taken from each pixel, 0 to 255."""
    pixel_shift: int
    """Bits that the difference then loses."""
    stages: tuple[StageForm, ...]

    def __post_init__(self) -> None:
        channels, height, width = self.input_shape
        if height != width or not 1 <= len(self.stages) <= _MOST_STAGES or not 8 <= self.modulus_bits <= 40:
            raise ValueError(f"network {self.name!r}: {self.input_shape}, {len(self.stages)} stages: out of range")
        side = height
        for stage in self.stages:
            flat = (channels * side * side, 1)
            if (stage.inputs, stage.side) not in ((channels, side), flat):
                raise ValueError(f"stage {stage.name!r} does not take {channels} channels of {side} x {side}")
            channels, side = stage.outputs, stage.side_out
        if self.stages[-1].shift is not None or any(stage.shift is None for stage in self.stages[:-1]):
            raise ValueError(f"network {self.name!r}: the last stage alone must be without activation")

    @property
    def classes(self) -> int:
        """Logits of a picture."""
        last = self.stages[-1]
        return last.outputs * last.side**2

    def integers_of(self, pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
        """What the first stage takes, from pixels of any shape."""
        return (pixels.astype(np.int64) - self.pixel_offset) >> self.pixel_shift


def pooled_shares(stage: StageForm, shares_OHW: NDArray[np.int64], modulus: int) -> NDArray[np.int64]:
    """Shares of the next stage's input from those of the activation's results: sums of windows for "sum" pools."""
    if stage.pool != "sum":
        return shares_OHW
    channels, height, width = shares_OHW.shape
    parts = shares_OHW.reshape(channels, height // 2, 2, width // 2, 2)
    summed: NDArray[np.int64] = parts.sum(axis=(2, 4)) % modulus
    return summed


def windows_of(stage: StageForm, shares_OHW: NDArray[np.int64]) -> NDArray[np.int64]:
    """Shares in the order of the activation's instances, (window, I)."""
    if stage.pool != "max":
        return shares_OHW.reshape(1, -1)
    channels, height, width = shares_OHW.shape
    parts = shares_OHW.reshape(channels, height // 2, 2, width // 2, 2)
    return parts.transpose(2, 4, 0, 1, 3).reshape(4, -1)


def as_input(stage: StageForm, shares_CHW: NDArray[np.int64]) -> NDArray[np.int64]:
    """Shares in the form that a stage takes: flattened to (inputs, 1, 1) before a dense layer."""
    return shares_CHW.reshape(stage.inputs, stage.side, stage.side)
