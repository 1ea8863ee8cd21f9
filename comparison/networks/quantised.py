"""A network of integers, as protocols of private inference compute it: exactly, modulo a prime that no sum reaches.

Every stage is a convolution of stride 1 with 'same' padding and integer weights, then ReLU, then a right shift that
rounds down, with a 2 x 2 pool before or behind; a dense layer is a convolution of one pixel. The last stage is linear.
A protocol that computes sums modulo t, and the activation on their centred residues, gives these logits to the last
bit, for `run` refuses pictures on which a sum would leave the residues.

Legend: N pictures, C channels, H W size, O I channels out and in, p kernel side, K logits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor
from torch.nn import functional

from comparison.lattice.parameters import batching_prime
from mple.disk.whole_files import write_whole
from mple.morph import ImageShape

Pool = Literal["none", "max", "sum"]
DEGREE = 4096
"""Slots of a plaintext, which decide the prime that a bit length stands for; those of 8192 slots are larger."""
_MOST_SHIFT = 31
_AT_ONCE = 100
_EXACT_F32, _EXACT_F64 = 2**24, 2**53


class NetworkError(ValueError):
    """Stages don't fit each other, a file holds no network, or a sum leaves the residues; the text says which."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LinearStage:
    """One convolution and what follows it."""

    name: str
    weights_OIpp: NDArray[np.int32]
    """Odd p; padding p // 2, stride 1."""
    bias_O: NDArray[np.int64]
    shift: int | None
    """Bits that the activation drops behind ReLU, 0 to 31; None for the last stage, which has neither."""
    pool: Pool = "none"
    """Over 2 x 2 positions: "max" (before ReLU or behind, it is the same) or "sum" (behind the shift)."""
    flatten: bool = False
    """A dense layer: the map before becomes one pixel of C·H·W channels, in that order; p is 1."""

    def __post_init__(self) -> None:
        weights, bias = self.weights_OIpp, self.bias_O
        if weights.dtype != np.int32 or weights.ndim != 4 or weights.shape[2] != weights.shape[3]:
            raise NetworkError(f"stage {self.name!r}: {weights.dtype} {weights.shape} weights; need int32 (O, I, p, p)")
        if 0 in weights.shape or weights.shape[2] % 2 == 0 or (self.flatten and weights.shape[2] != 1):
            raise NetworkError(f"stage {self.name!r}: weights {weights.shape}; p must be odd, of a dense layer 1")
        if bias.dtype != np.int64 or bias.shape != weights.shape[:1]:
            raise NetworkError(f"stage {self.name!r}: {bias.dtype} bias {bias.shape}; needs int64 {weights.shape[:1]}")
        if self.pool not in get_args(Pool):
            raise NetworkError(f"stage {self.name!r}: pool = {self.pool!r}; choose none, max or sum")
        if self.shift is not None and not 0 <= self.shift <= _MOST_SHIFT:
            raise NetworkError(f"stage {self.name!r}: shift = {self.shift}; allowed are 0 to {_MOST_SHIFT}")
        if self.shift is None and self.pool != "none":
            raise NetworkError(f"stage {self.name!r} is the last one and pools; needs a shift or no pool")

    @property
    def weight_bits(self) -> int:
        """Bits of the largest weight, its sign one of them."""
        return int(np.abs(self.weights_OIpp).max()).bit_length() + 1


@dataclass(frozen=True, kw_only=True, slots=True)
class StageRange:
    """The largest magnitudes of one stage over some pictures."""

    name: str
    sums: int
    """Of weights times inputs plus bias."""
    results: int
    """Behind ReLU and shift, before a "sum" pool; of the last stage, of its logits."""

    def joined(self, other: StageRange) -> StageRange:
        """Over the pictures of both."""
        return StageRange(name=self.name, sums=max(self.sums, other.sums), results=max(self.results, other.results))


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantisedNetwork:
    """All stages, and how pixels become the first one's integers."""

    name: str
    input_shape: ImageShape
    """Of a picture; square."""
    stages: tuple[LinearStage, ...]
    modulus_bits: int
    """Bits of t, 16 to 30; t is the largest prime of so many bits that is 1 modulo 2 · 4096."""
    pixel_offset: int = 128
    """Taken from each pixel, 0 to 255. Padding is 0 after that: as dark as this pixel."""
    pixel_shift: int = 0
    """Bits that the difference then loses, rounding down, 0 to 7."""

    def __post_init__(self) -> None:
        if not 0 <= self.pixel_offset <= 255 or not 0 <= self.pixel_shift <= 7:
            raise NetworkError(
                f"pixel_offset = {self.pixel_offset}, pixel_shift = {self.pixel_shift}; allowed are 0 to 255, 0 to 7"
            )
        last = [stage.shift is None for stage in self.stages]
        if not any(last) or last.index(True) != len(last) - 1:
            raise NetworkError(f"network {self.name!r}: every stage but the last one needs a shift, and that one none")
        if len({stage.name for stage in self.stages}) != len(self.stages):
            raise NetworkError(f"network {self.name!r}: stages {[stage.name for stage in self.stages]}; name each once")
        _ = self.sides, self.modulus

    @cached_property
    def modulus(self) -> int:
        """Modulus of the sums, t."""
        return batching_prime(self.modulus_bits, DEGREE)

    @property
    def largest_sum(self) -> int:
        """Largest magnitude that a sum may have."""
        return largest_sum_of(self.modulus)

    @property
    def classes(self) -> int:
        """Output channels, K."""
        return len(self.stages[-1].bias_O) * self.sides[-1] ** 2

    @cached_property
    def sides(self) -> tuple[int, ...]:
        """Side of every stage's maps before its pool, in pixels."""
        channels, side = self.input_shape.channels, self.input_shape.height
        if side != self.input_shape.width:
            raise NetworkError(f"network {self.name!r}: pictures of {side} x {self.input_shape.width}; needs squares")
        sides = []
        for stage in self.stages:
            if stage.flatten:
                channels, side = channels * side * side, 1
            outputs, inputs = stage.weights_OIpp.shape[:2]
            if inputs != channels or (stage.pool != "none" and side % 2):
                raise NetworkError(
                    f"stage {stage.name!r} takes {inputs} channels and pools {stage.pool!r}; "
                    f"it gets {channels} of {side} x {side}"
                )
            sides.append(side)
            channels, side = outputs, side // 2 if stage.pool != "none" else side
        return tuple(sides)

    def quantise(self, pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
        """What the first stage takes, from pixels of any shape."""
        return (pixels.astype(np.int64) - self.pixel_offset) >> self.pixel_shift

    def run(self, pixels_NCHW: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Logits (N, K), exact. Raises NetworkError: pictures of another shape, or a sum beyond `largest_sum`."""
        logits = [logits_BK for logits_BK, _ in self._batches(pixels_NCHW)]
        return np.concatenate([np.empty((0, self.classes), np.int64), *logits])

    def ranges(self, pixels_NCHW: NDArray[np.uint8]) -> tuple[StageRange, ...]:
        """The largest magnitudes of every stage on one picture or more.

        Raises NetworkError: as `run`, or there is no picture.
        """
        if not len(pixels_NCHW):
            raise NetworkError("no pictures to find ranges on")
        whole: list[StageRange] = []
        for _, ranges in self._batches(pixels_NCHW):
            whole = [a.joined(b) for a, b in zip(whole or ranges, ranges, strict=True)]
        return tuple(whole)

    def save(self, path: Path) -> None:
        """Write a safetensors file, whole and on the disk: tensors NAME.weights and NAME.bias, the rest as JSON."""
        tensors: dict[str, NDArray[np.generic]] = {}
        for stage in self.stages:
            small = np.abs(stage.weights_OIpp).max() < 128
            tensors[f"{stage.name}.weights"] = stage.weights_OIpp.astype(np.int8 if small else np.int32)
            tensors[f"{stage.name}.bias"] = np.ascontiguousarray(stage.bias_O)
        shape = self.input_shape
        about = {
            "name": self.name,
            "input_shape": [shape.channels, shape.height, shape.width],
            "modulus_bits": self.modulus_bits,
            "pixel_offset": self.pixel_offset,
            "pixel_shift": self.pixel_shift,
            "stages": [
                {"name": stage.name, "shift": stage.shift, "pool": stage.pool, "flatten": stage.flatten}
                for stage in self.stages
            ],
        }
        write_whole(path, save(tensors, metadata={"quantised_network": json.dumps(about)}))

    @classmethod
    def load(cls, path: Path) -> QuantisedNetwork:
        """Read what `save` wrote. Raises NetworkError: there is no such file, or it holds no such network."""
        try:
            with safe_open(path, framework="numpy") as file:
                about = json.loads((file.metadata() or {})["quantised_network"])
                stages = tuple(
                    LinearStage(
                        weights_OIpp=file.get_tensor(f"{stage['name']}.weights").astype(np.int32),
                        bias_O=file.get_tensor(f"{stage['name']}.bias"),
                        **stage,
                    )
                    for stage in about.pop("stages")
                )
            channels, height, width = about.pop("input_shape")
            return cls(input_shape=ImageShape(channels=channels, height=height, width=width), stages=stages, **about)
        except FileNotFoundError:
            raise NetworkError(f"no quantised network at {path}") from None
        except NetworkError:
            raise
        except (SafetensorError, KeyError, TypeError, ValueError) as fault:
            raise NetworkError(f"{path} holds no quantised network: {fault}") from None

    def _batches(self, pixels_NCHW: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.int64], list[StageRange]]]:
        """Logits and ranges of some pictures after the others."""
        shape = self.input_shape
        if pixels_NCHW.dtype != np.uint8 or pixels_NCHW.shape[1:] != (shape.channels, shape.height, shape.width):
            raise NetworkError(f"{pixels_NCHW.dtype} pictures of {pixels_NCHW.shape[1:]}; needs uint8 of {shape}")
        stages = [ExactStage(stage) for stage in self.stages]
        for low in range(0, len(pixels_NCHW), _AT_ONCE):
            x_BCHW = torch.from_numpy(self.quantise(pixels_NCHW[low : low + _AT_ONCE]))
            ranges = []
            for exact in stages:
                sums_BOHW = exact.sums(x_BCHW)
                largest = int(sums_BOHW.abs().max())
                if largest > self.largest_sum:
                    raise NetworkError(
                        f"stage {exact.stage.name!r}: a sum of magnitude {largest} leaves the residues modulo "
                        f"{self.modulus}, at most {self.largest_sum}; quantise with more bits of the modulus"
                    )
                x_BCHW, results = exact.activated(sums_BOHW)
                ranges.append(StageRange(name=exact.stage.name, sums=largest, results=results))
            yield x_BCHW.reshape(len(x_BCHW), -1).numpy().astype(np.int64), ranges


def largest_sum_of(modulus: int) -> int:
    """Largest magnitude of a sum modulo t, below (t - 1) / 2: that residue counts as negative in the circuits."""
    return (modulus - 3) // 2


class ExactStage:
    """A stage's arithmetic in floating point of a length in which all its integers are exact. Sums of whole numbers are
    exact in any order as long as the sum of their magnitudes is: below 2^24 in binary32, which most batches are, and
    below 2^53 in binary64."""

    def __init__(self, stage: LinearStage) -> None:
        self.stage = stage
        magnitudes_O = np.abs(stage.weights_OIpp.astype(np.int64)).sum((1, 2, 3))
        self._most_weight, self._most_bias = int(magnitudes_O.max()), int(np.abs(stage.bias_O).max())
        self._weights: dict[torch.dtype, Tensor] = {}
        self._bias = torch.from_numpy(stage.bias_O)

    def sums(self, x_BCHW: Tensor) -> Tensor:
        """Weights times inputs plus bias, whole numbers (B, O, H, W), from whole numbers of any dtype."""
        if self.stage.flatten:
            x_BCHW = x_BCHW.reshape(len(x_BCHW), -1, 1, 1)
        bound = self._most_weight * int(x_BCHW.abs().max()) + self._most_bias
        if bound >= _EXACT_F64:
            raise NetworkError(f"stage {self.stage.name!r}: sums up to {bound} are not exact; needs below {_EXACT_F64}")
        dtype = torch.float32 if bound < _EXACT_F32 else torch.float64
        weights_OIpp, padding = self._of(dtype), self.stage.weights_OIpp.shape[2] // 2
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            return functional.conv2d(x_BCHW.to(dtype), weights_OIpp, self._bias.to(dtype), padding=padding)

    def activated(self, sums_BOHW: Tensor) -> tuple[Tensor, int]:
        """What the next stage takes, and the largest magnitude before a "sum" pool."""
        if self.stage.shift is None:
            return sums_BOHW, int(sums_BOHW.abs().max())
        if self.stage.pool == "max":
            sums_BOHW = functional.max_pool2d(sums_BOHW, 2)
        results = torch.floor(sums_BOHW.clamp(min=0) * 2.0**-self.stage.shift)
        largest = int(results.max())
        return (4 * functional.avg_pool2d(results, 2) if self.stage.pool == "sum" else results), largest

    def _of(self, dtype: torch.dtype) -> Tensor:
        if dtype not in self._weights:
            self._weights[dtype] = torch.from_numpy(self.stage.weights_OIpp).to(dtype)
        return self._weights[dtype]
