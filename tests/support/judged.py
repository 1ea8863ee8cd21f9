"""Logits and labels of networks of one's choice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mple.metrics import Outputs
from mple.metrics.outputs import truths_of


def drawn(
    outputs: Outputs,
    samples: int,
    *,
    seed: int = 1,
    spread: float = 2.0,
    gain: float = 1.5,
    at: float = 0.0,
    digits: int = 9,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits that are normal about `at`, by `gain` spreads higher where a class is true, and labels; of several labels
    a tenth is unknown. Few `digits` behind the point: ties."""
    rng = np.random.Generator(np.random.PCG64(seed))
    if outputs.several:
        labels = rng.choice([-1, 0, 1], (samples, outputs.count), p=[0.1, 0.6, 0.3])
    else:
        labels = rng.integers(0, outputs.count, samples)
    noise_NC = rng.normal(size=(samples, outputs.count))
    logits_NC = at + spread * (noise_NC + gain * (truths_of(labels, outputs) == 1))
    return np.round(logits_NC, digits).astype(np.float32).astype(np.float64), labels
