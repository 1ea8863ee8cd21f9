"""Is a delivered folder as it came, and are its two networks the same one?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mple.delivered.about import NetworkAbout
from mple.delivered.folder import ONNX, WEIGHTS, DeliveredNetwork
from mple.delivered.onnx_file import LOGITS, PIXELS

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


def verify_files(network: DeliveredNetwork) -> None:
    """Compare all files of a folder with their digests. Raises DamagedError: one is gone, or not as delivered."""
    for name in network.record.sha256:
        network.content(name)


def compare_networks(network: DeliveredNetwork) -> Verification | None:
    """Compare the answers of a folder's two networks to random pictures, by onnxruntime and by numpy; None where only
    one of them was copied.

    Raises ValueError: `model.json` and the files are not of the same network; ImportError: onnxruntime is missing.
    """
    if not {ONNX, WEIGHTS} <= network.record.sha256.keys():
        return None
    about = network.record.about
    shape = (about.channels, about.height, about.width)
    count = max(1, min(8, _MOST_VALUES // int(np.prod(shape))))
    pixels_BCHW = np.random.default_rng(1).integers(0, 256, (count, *shape), dtype=np.uint8)
    by_onnx_BC, by_numpy_BC = _by_onnxruntime(network, pixels_BCHW), network.plain().logits(pixels_BCHW)
    return Verification(
        pictures=count,
        largest_difference=float(np.abs(by_onnx_BC - by_numpy_BC).max()),
        tolerance=_TOLERANCE * max(1.0, float(np.abs(by_numpy_BC).max())),
    )


def _by_onnxruntime(network: DeliveredNetwork, pixels_BCHW: NDArray[np.uint8]) -> NDArray[np.float32]:
    import onnxruntime  # of the extra `onnx`

    options, where = onnxruntime.SessionOptions(), network.folder / ONNX
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    try:
        session = onnxruntime.InferenceSession(network.content(ONNX), options, providers=["CPUExecutionProvider"])
    except Exception as fault:  # onnxruntime's errors have no common type but this
        raise ValueError(f"{where} is no network that onnxruntime takes: {str(fault)[:300]}") from None
    about = NetworkAbout.from_metadata(session.get_modelmeta().custom_metadata_map, str(where))
    if about != network.record.about:
        raise ValueError(f"{where} is a network of run {about.run_id}, not of {network.record.about.run_id}")
    logits_BC: NDArray[np.float32] = session.run([LOGITS], {PIXELS: pixels_BCHW})[0]
    return logits_BC
