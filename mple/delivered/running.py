"""Running a delivered network: `model.onnx` by onnxruntime, and its weights by numpy alone, to compare the two.

Legend: B pictures, C channels or classes, H W size, F filters.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mple.delivered.about import NetworkAbout
from mple.delivered.assembly import BIAS, NORM, WEIGHT, Tensors, layer_places
from mple.delivered.onnx_file import BATCH_NORM_EPSILON, LOGITS, MAPS, PIXELS

_VALUES_AT_ONCE = 64 * 64 * 64 * 64
"""Of the first stage's maps: what a run takes in memory does not grow with the number of pictures."""


class OnnxNetwork:
    """A `model.onnx` in memory, to be asked."""

    def __init__(self, content: bytes, where: str = "model.onnx", threads: int = 1) -> None:
        """Load it. `where` names it in errors; `threads` of its arithmetic, 0 means one for each core.

        Raises ValueError: it is no network of a run.
        """
        # It takes a while to load, and few commands need it.
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as fault:  # onnxruntime's errors have no common type but this
            raise ValueError(f"{where} is no network that onnxruntime takes: {str(fault)[:300]}") from None
        self.about = NetworkAbout.from_metadata(self._session.get_modelmeta().custom_metadata_map, where)

    def logits(self, pixels_BCHW: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The network's answers (B, classes), float32, in the order of `about.classes`.

        Raises ValueError: the pictures are not uint8 of the network's channels and sides.
        """
        return self._run([LOGITS], pixels_BCHW)[0]

    def logits_and_maps(self, pixels_BCHW: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The answers, and the last stage's feature maps (B, F, ceil(H / 16), ceil(W / 16)) before the last pool."""
        logits_BC, maps_BFHW = self._run([LOGITS, MAPS], pixels_BCHW)
        return logits_BC, maps_BFHW

    def _run(self, outputs: list[str], pixels_BCHW: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        require_pictures(pixels_BCHW, self.about)
        parts = [self._session.run(outputs, {PIXELS: group}) for group in _groups(pixels_BCHW, self.about)]
        return [np.concatenate(one) for one in zip(*parts, strict=True)]


def numpy_logits(tensors: Tensors, about: NetworkAbout, pixels_BCHW: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The answers (B, classes) of a plain network by its definition, slowly: with neither torch nor onnxruntime.

    Raises ValueError: as `OnnxNetwork.logits`.
    """
    require_pictures(pixels_BCHW, about)
    scale_C, shift_C = about.scale_and_shift()
    parts = []
    for group in _groups(pixels_BCHW, about):
        maps_BCHW = group.astype(np.float32) * scale_C[:, None, None] + shift_C[:, None, None]
        for place in layer_places(about):
            maps_BCHW = _pooled(maps_BCHW) if place is None else _layer(tensors, place, maps_BCHW)
        parts.append(maps_BCHW.mean(axis=(2, 3)) @ tensors[WEIGHT].T + tensors[BIAS])
    return np.concatenate(parts).astype(np.float32)


def require_pictures(pixels_BCHW: NDArray[np.uint8], about: NetworkAbout) -> None:
    """Raise ValueError when pictures are not what a network takes."""
    due = (about.channels, about.height, about.width)
    if pixels_BCHW.dtype != np.uint8 or pixels_BCHW.ndim != 4 or pixels_BCHW.shape[1:] != due or not len(pixels_BCHW):
        text = f"pictures {pixels_BCHW.dtype} of shape {pixels_BCHW.shape}"
        raise ValueError(f"{text}; the network takes uint8 (one or more, {', '.join(map(str, due))})")


def _groups(pixels_BCHW: NDArray[np.uint8], about: NetworkAbout) -> Iterator[NDArray[np.uint8]]:
    most = max(1, _VALUES_AT_ONCE // (about.channel_counts[0][0] * about.height * about.width))
    for begin in range(0, len(pixels_BCHW), most):
        yield np.ascontiguousarray(pixels_BCHW[begin : begin + most])


def _layer(tensors: Tensors, place: int, maps_BCHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """A convolution, its batch norm and rectifier."""
    kernels_FCpp, (height, width) = tensors[f"features.{place}.weight"], maps_BCHW.shape[2:]
    side = kernels_FCpp.shape[-1]
    edge = [(side // 2, side // 2)] * 2
    padded_BCHW = np.pad(maps_BCHW, [(0, 0), (0, 0), *edge])
    out_FBHW = np.zeros((len(kernels_FCpp), len(maps_BCHW), height, width), np.float32)
    for row in range(side):
        for column in range(side):
            seen_BCHW = padded_BCHW[:, :, row : row + height, column : column + width]
            out_FBHW += np.tensordot(kernels_FCpp[:, :, row, column], seen_BCHW, axes=(1, 1))
    weight, bias, mean, var = (tensors[f"features.{place + 1}.{name}"] for name in NORM)
    scale_F = weight / np.sqrt(var + np.float32(BATCH_NORM_EPSILON))
    shift_F = bias + (tensors[f"features.{place}.bias"] - mean) * scale_F
    normed_FBHW = out_FBHW * scale_F[:, None, None, None] + shift_F[:, None, None, None]
    rectified: NDArray[np.float32] = np.maximum(normed_FBHW, 0).transpose(1, 0, 2, 3)
    return rectified


def _pooled(maps_BFHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """The greatest of each 2 x 2 positions; of an odd side's last ones, of those that there are."""
    odd = [(0, side % 2) for side in maps_BFHW.shape[2:]]
    whole = np.pad(maps_BFHW, [(0, 0), (0, 0), *odd], constant_values=-np.inf)
    count, filters, height, width = whole.shape
    pooled: NDArray[np.float32] = whole.reshape(count, filters, height // 2, 2, width // 2, 2).max(axis=(3, 5))
    return pooled
