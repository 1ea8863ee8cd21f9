"""Codecs: morphed values to bytes and back, sample by sample, so that a received sample can be kept as it came.

Legend: B samples, V morphed values of one sample.

| codec | bytes a value | error of a value |
| --- | --- | --- |
| `f32` | 4 | none |
| `f16` | 2 | relative 2^-11 for 6.1e-5 <= abs <= 65504, below that absolute 3e-8 |
| `q8` | 1, and 4 for each sample | scale / 2 and float32 rounding, where scale = max abs of the sample / 127 |
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mple.v1 import common_pb2


@dataclass(frozen=True, slots=True)
class EncodedSamples:
    """Coded samples: `codes_BV` of the codec's little-endian dtype, `scales_B` binary32 or empty."""

    scales_B: NDArray[np.float32]
    codes_BV: NDArray[np.generic]


class Codec(ABC):
    """One way to write morphed values.

    Guarantees: `decode(encode(t))` differs from t by no more than the bound in the table above; each sample is coded
    by itself, so that samples may be regrouped without another coding; equal inputs give equal bytes on every machine.
    """

    name: str
    wire_id: common_pb2.Codec
    code_dtype: np.dtype[np.generic]
    scaled: bool
    """Whether each sample carries a binary32 scale."""

    @abstractmethod
    def encode(self, t_BV: Tensor) -> EncodedSamples:
        """Code float32 values.

        Raises:
            ValueError: A value is NaN or infinite, or beyond the codec's range.
        """

    @abstractmethod
    def decode(self, coded: EncodedSamples) -> Tensor:
        """The values as a float32 tensor (B, V) of its own memory."""

    def sample_bytes(self, values: int) -> int:
        """Bytes of one coded sample of `values` values, its scale included."""
        return values * self.code_dtype.itemsize + (4 if self.scaled else 0)


_NO_SCALES = np.empty(0, np.float32)


class _Floats(Codec):
    scaled = False

    def __init__(self, name: str, wire_id: common_pb2.Codec, dtype: str) -> None:
        self.name, self.wire_id, self.code_dtype = name, wire_id, np.dtype(dtype)

    def encode(self, t_BV: Tensor) -> EncodedSamples:
        values = t_BV.detach().contiguous().numpy()
        with np.errstate(over="ignore"):
            codes = values.astype(self.code_dtype, copy=False)
        if not np.isfinite(codes).all():
            raise ValueError(f"codec {self.name}: a morphed value is NaN, infinite or beyond the codec's range")
        return EncodedSamples(_NO_SCALES, codes)

    def decode(self, coded: EncodedSamples) -> Tensor:
        return torch.from_numpy(coded.codes_BV.astype(np.float32))


class _Int8(Codec):
    name = "q8"
    wire_id = common_pb2.CODEC_Q8
    code_dtype: np.dtype[np.generic] = np.dtype("i1")
    scaled = True

    def encode(self, t_BV: Tensor) -> EncodedSamples:
        peak_B1 = t_BV.detach().abs().amax(dim=1, keepdim=True)
        if not torch.isfinite(peak_B1).all():
            raise ValueError("codec q8: a morphed value is NaN or infinite")
        if not torch.isfinite(peak_B1 * 2).all():  # 127 steps of a scale that was rounded up must stay finite
            raise ValueError("codec q8: a morphed value is beyond the codec's range, 1.7e38")
        scale_B1 = torch.where(peak_B1 > 0, peak_B1 / 127, torch.ones_like(peak_B1)).clamp_(min=1e-30)
        codes_BV = (t_BV / scale_B1).round_().clamp_(-127, 127).to(torch.int8)
        return EncodedSamples(scale_B1.squeeze(1).numpy().astype("<f4"), codes_BV.numpy())

    def decode(self, coded: EncodedSamples) -> Tensor:
        codes_BV = torch.from_numpy(coded.codes_BV.astype(np.float32))
        return codes_BV.mul_(torch.from_numpy(coded.scales_B.astype(np.float32))[:, None])


_CODECS: tuple[Codec, ...] = (
    _Floats("f32", common_pb2.CODEC_F32, "<f4"),
    _Floats("f16", common_pb2.CODEC_F16, "<f2"),
    _Int8(),
)


def codec_named(name: str) -> Codec:
    """The codec of a plan's `wire.codec`.

    Raises:
        ValueError: There is no such codec.
    """
    for codec in _CODECS:
        if codec.name == name:
            return codec
    raise ValueError(f"codec = {name!r}; choose one of {', '.join(codec.name for codec in _CODECS)}")
