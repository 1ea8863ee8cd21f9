"""How many bytes a run should take, from its plan alone: the count that measured bytes are held against.

Layers, labels, logits and plain floats can be counted exactly. Codes of `qN` are entropy coded: what they take follows
from the root mean square of the blocks, which an orthogonal core keeps, so it can be read off the plain pictures. The
rest (requests, fields of messages, exponents and classes of blocks) is small and stays out of the prediction.

Legend: R blocks of all samples, Q core side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from mple.morph import expected_weight_shape
from mple.plan import Custody, RunPlan
from mple.wire.block_codec import BlockCodec
from mple.wire.codecs import codec_named
from mple.wire.gaussian_models import LARGEST_CODE, code_masses
from mple.wire.layer_dtype import weight_bytes

LOGIT_BYTES = 4
LABEL_BYTES = 2
_GRID = np.arange(-8.0, 8.0 + 1 / 16, 1 / 16)
"""Logarithms to base 2 of the deviations, in steps, at which the entropy is computed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictedBytes:
    """Of a run, over all sites, both directions."""

    data: float
    """Codes of all samples, each sent once."""
    layer: float
    """Layers that sites upload, without the file's header."""
    label: float
    logits: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.data + self.layer + self.label + self.logits


def predict_bytes(plan: RunPlan, bits_a_value: float) -> PredictedBytes:
    """Bytes of a run in which every sample crosses once.

    Args:
        plan: The run's.
        bits_a_value: What a morphed value takes: `fixed_bits`, or `gaussian_bits` where that is None.
    """
    train, test = (sum(getattr(site, f"{split}_images") for site in plan.sites) for split in ("train", "test"))
    shape = expected_weight_shape(plan.morph.scheme(), plan.image, plan.filters, plan.model.kernel)
    uploads = 0 if plan.custody is Custody.ESCROW else len(plan.sites)
    return PredictedBytes(
        data=(train + test) * plan.geometry.morphed_elements * bits_a_value / 8,
        layer=float(uploads * weight_bytes(shape, plan.layer_dtype)),
        label=float(LABEL_BYTES * train),
        logits=float(LOGIT_BYTES * test * len(plan.classes) * plan.training.epochs),
    )


def fixed_bits(codec: str) -> float | None:
    """Bits of a value under a codec of floats; None where they depend on the pictures."""
    return None if isinstance(codec_named(codec), BlockCodec) else 8.0 * codec_named(codec).code_dtype.itemsize


def gaussian_bits(codec: str, rms_R: NDArray[np.float64], core_side: int) -> float:
    """Bits of a value under `qN`: the entropy of a Gaussian, rounded to steps, averaged over blocks.

    Args:
        codec: One of `q4` to `q8`.
        rms_R: Root mean square of each block's values, in units of normalised pixels.
        core_side: Q.

    Raises:
        ValueError: The codec is none of these.
    """
    coder = codec_named(codec)
    if not isinstance(coder, BlockCodec):
        raise ValueError(f"codec {codec} has a fixed size; its bits do not depend on the pictures")
    exponents_R = np.frexp(rms_R * _gaussian_peak(core_side) / (coder.step * (LARGEST_CODE + 0.5)))[1].clip(0)
    with np.errstate(divide="ignore"):  # a black block: its logarithm is below the grid, its entropy nothing
        logs_R = np.log2(rms_R / np.ldexp(coder.step, exponents_R))
    return float(np.interp(logs_R, _GRID, _entropies()).mean())


def _gaussian_peak(count: int) -> float:
    """Median of the largest of so many absolute values of a standard Gaussian."""
    return NormalDist().inv_cdf(0.5 * (1 + 0.5 ** (1 / count)))


@cache
def _entropies() -> NDArray[np.float64]:
    """Bits of the whole number nearest to a Gaussian value, at the deviations of `_GRID`."""
    return np.array([_entropy(2.0**log) for log in _GRID])


def _entropy(deviation: float) -> float:
    return -sum(mass * math.log2(mass) for mass in code_masses(deviation) if mass > 0)
