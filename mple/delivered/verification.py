"""Is a delivered folder as it came, and are its two networks the same one?"""

from dataclasses import dataclass

import numpy as np

from mple.delivered.folder import ONNX, WEIGHTS, DeliveredNetwork
from mple.delivered.running import numpy_logits

_TOLERANCE = 1e-4
_MOST_VALUES = 4 * 3 * 224 * 224


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What was compared."""

    pictures: int
    """Of random pixels."""
    largest_difference: float
    """Between two logits: of `model.onnx` by onnxruntime, and of `model.safetensors` by numpy."""
    tolerance: float

    @property
    def sound(self) -> bool:
        """Whether the two are the same network."""
        return self.largest_difference <= self.tolerance


def verify_delivered(network: DeliveredNetwork, threads: int = 1) -> Verification | None:
    """Compare all files of a folder with their digests, and the answers of its two networks to random pictures; None
    where only one of them was copied.

    Raises DamagedError: a file is gone, or not as it was delivered; ValueError: `model.json` and the files are not of
    the same network.
    """
    for name in network.record.sha256:
        network.content(name)
    if not {ONNX, WEIGHTS} <= network.record.sha256.keys():
        return None
    onnx, tensors, about = network.onnx(threads), network.tensors(), network.record.about
    if onnx.about != about:
        raise ValueError(f"{network.folder}: model.onnx is a network of run {onnx.about.run_id}, not of {about.run_id}")
    shape = (about.channels, about.height, about.width)
    count = max(1, min(8, _MOST_VALUES // int(np.prod(shape))))
    pixels_BCHW = np.random.default_rng(1).integers(0, 256, (count, *shape), dtype=np.uint8)
    by_onnx_BC, by_numpy_BC = onnx.logits(pixels_BCHW), numpy_logits(tensors, about, pixels_BCHW)
    return Verification(
        pictures=count,
        largest_difference=float(np.abs(by_onnx_BC - by_numpy_BC).max()),
        tolerance=_TOLERANCE * max(1.0, float(np.abs(by_numpy_BC).max())),
    )
