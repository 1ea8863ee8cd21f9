"""The stem: the network's first convolution, public within a run, frozen, and folded into every augmented layer.

Legend: F filters, C channels, p kernel side, B batch, H W size.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from mple.disk.bounded import MEBIBYTE, UnsoundFileError, read_bounded
from mple.model.settings import ModelSettings
from mple.model.trunks import TRUNKS
from mple.model.whitening import whitening_kernels
from mple.morph import gaussians

_NAMES = ("stem.weight", "features.0.weight")
MOST_BYTES = 1024 * 1024
_MOST_FILE_BYTES = 1024 * MEBIBYTE
"""Of a file that may hold a whole network: an ImageNet VGG-16 has 528 MB."""


class StemError(ValueError):
    """A stem can't be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Stem:
    """Kernels of the first convolution: float32 (F, C, p, p), odd p; stride 1, padding p // 2, no bias."""

    kernels_FCpp: NDArray[np.float32]

    def __post_init__(self) -> None:
        kernels = self.kernels_FCpp
        if kernels.ndim != 4 or 0 in kernels.shape or kernels.shape[2] != kernels.shape[3] or kernels.shape[2] % 2 == 0:
            raise StemError(f"kernels of shape {kernels.shape}; needs (filters, channels, p, p) with odd p")
        if kernels.dtype != np.float32 or not np.isfinite(kernels).all():
            raise StemError(f"kernels of dtype {kernels.dtype} or with NaN or infinity; needs finite float32")

    @classmethod
    def from_seed(cls, seed: str, *, filters: int, channels: int, kernel: int, mirrored: bool = False) -> Stem:
        """Kernels drawn from a published seed: normal with variance 2 / (C·p²) (He et al., 2015). Not secret: whoever
        knows the seed knows the stem.

        `mirrored` draws every second kernel as the left-right mirror image of the one before it, and the last of an
        odd number as its own; kernels of one pixel are that anyway.
        """
        fan_in = channels * kernel * kernel
        published = hashlib.sha256(b"mple/v1/stem\0" + seed.encode()).digest()
        drawn = -(-filters // 2) if mirrored and kernel > 1 else filters
        values = gaussians(published, b"stem", drawn * fan_in) * math.sqrt(2.0 / fan_in)
        kernels = values.astype(np.float32).reshape(drawn, channels, kernel, kernel)
        if drawn < filters:
            kernels = np.stack([kernels, kernels[..., ::-1]], axis=1).reshape(-1, *kernels.shape[1:])[:filters]
            if filters % 2:
                kernels[-1, ..., kernel // 2 + 1 :] = kernels[-1, ..., : kernel // 2][..., ::-1]
        return cls(kernels)

    @classmethod
    def from_safetensors(cls, source: Path | bytes) -> Stem:
        """Kernels from a safetensors file: the tensor `stem.weight` or `features.0.weight`, or its only 4-d one.

        An ImageNet VGG-16's file fits. A bias is left out: batch normalisation follows the stem and takes any
        constant per channel away again, so the network's output is the same with and without it.

        Raises StemError: no regular file, not safetensors, no such tensor, even kernels, NaN or infinity.
        """
        try:
            tensors = load(source if isinstance(source, bytes) else read_bounded(source, _MOST_FILE_BYTES))
        except FileNotFoundError:
            raise StemError(f"no stem file at {source!s}") from None
        except (OSError, UnsoundFileError) as fault:
            raise StemError(f"the stem file can't be read: {fault}") from None
        except SafetensorError as fault:
            raise StemError(f"the stem file is no safetensors file: {fault}") from None
        except (KeyError, TypeError) as fault:
            raise StemError(f"the stem file has numbers of the type {fault}; save it as float32") from None
        named = [name for name in _NAMES if name in tensors]
        if not named:
            named = [name for name, tensor in tensors.items() if tensor.ndim == 4]
            if len(named) != 1:
                raise StemError(f"the stem file holds {sorted(tensors)[:8]}; needs one of {_NAMES} or one 4-d tensor")
        kernels = tensors[named[0]]
        if not np.issubdtype(kernels.dtype, np.floating):
            raise StemError(f"kernels of dtype {kernels.dtype}; needs floating point")
        return cls(np.ascontiguousarray(kernels, np.float32))

    @property
    def filters(self) -> int:
        """Output channels, F."""
        return int(self.kernels_FCpp.shape[0])

    @property
    def channels(self) -> int:
        """Input channels, C."""
        return int(self.kernels_FCpp.shape[1])

    @property
    def kernel(self) -> int:
        """Side of a kernel in pixels, p."""
        return int(self.kernels_FCpp.shape[2])

    def for_grey(self) -> Stem:
        """The stem for pictures of one channel that gives what this one gives for three equal channels: each kernel is
        summed over them. So it is that of coloured pictures that are grey, where all channels are normalised alike."""
        return Stem(self.kernels_FCpp.sum(axis=1, keepdims=True, dtype=np.float64).astype(np.float32))

    def digest(self) -> bytes:
        """SHA-256 over shape and little-endian values, 32 bytes."""
        shape = ",".join(map(str, self.kernels_FCpp.shape)).encode()
        values = self.kernels_FCpp.astype("<f4").tobytes()
        return hashlib.sha256(b"mple/v1/stem-digest\0" + shape + b"\0" + values).digest()

    def to_safetensors(self) -> bytes:
        """The file that `from_safetensors` reads back."""
        return save({"stem.weight": np.ascontiguousarray(self.kernels_FCpp)})


def planned_stem(model: ModelSettings, *, filters: int, channels: int, offered: Stem | None = None) -> Stem:
    """The stem of a run: the one that was offered, else a whitening one or one drawn from the published seed. Of
    weights from a file, one for three channels serves pictures of one as `Stem.for_grey` says.

    Raises StemError: none was offered, though the settings say so; it has another shape than the run needs; or it lacks
    mirror images that the settings want. TableDiffersError: the table of a whitening one was changed.
    """
    if offered is None:
        if model.stem_offered:
            raise StemError("the compute node is to bring the stem, but none has been offered")
        if model.stem == "seed":
            return Stem.from_seed(
                model.stem_seed, filters=filters, channels=channels, kernel=model.kernel, mirrored=model.stem_mirrored
            )
        return Stem(whitening_kernels(filters, channels, model.kernel, mirrored=model.stem_mirrored))
    if model.from_file and (offered.channels, channels) == (3, 1):
        offered = offered.for_grey()
    if offered.filters != filters:
        whole = offered.filters == TRUNKS[model.trunk].filters(1)
        cure = "set model.width = 1" if whole else "set model.width to that of the network it is from"
        raise StemError(
            f"the stem has {offered.filters} filters, the network of model.width = {model.width:g} takes {filters}; "
            f"{cure}, or offer another"
        )
    if offered.channels != channels:
        grey = "; of weights from a file, kernels of three channels can be summed for pictures of one, no others"
        raise StemError(
            f"the stem takes pictures of {_channels(offered.channels)}, the sites' have {_channels(channels)}"
            f"{grey if model.from_file else ''}; bring pictures of {_channels(offered.channels)}, or another stem"
        )
    if offered.kernel != model.kernel:
        raise StemError(
            f"the stem's kernels have a side of {offered.kernel} pixels, model.kernel = {model.kernel}; set "
            f"model.kernel = {offered.kernel}"
        )
    if model.stem_mirrored:
        mirror_images(offered)
    return offered


def mirror_images(stem: Stem) -> NDArray[np.int64]:
    """Of each of the stem's channels the one whose kernel is its left-right mirror image, itself where a kernel is its
    own; an involution (F,).

    The features of a mirrored picture are the mirrored maps with channels exchanged by it: padding is symmetric.

    Raises StemError: a kernel's mirror image is not in the stem, to the last bit.
    """
    kernels, image_of = stem.kernels_FCpp, np.full(stem.filters, -1)
    for place in range(stem.filters):
        if image_of[place] >= 0:
            continue
        mirrored = kernels[place, ..., ::-1]
        found = next(
            (i for i in range(place, stem.filters) if image_of[i] < 0 and np.array_equal(kernels[i], mirrored)), None
        )
        if found is None:
            raise StemError(
                f"the stem lacks the mirror image of kernel {place}; give it one for each kernel, bit for bit, or set "
                'model.stem_mirrored = false and leave "mirror" out of training.augment'
            )
        image_of[place], image_of[found] = found, place
    return image_of


def mirrored_channels(stem: Stem, order: NDArray[np.int64]) -> NDArray[np.int64]:
    """`mirror_images` of the channels in another order, where place j holds the stem's channel `order[j]`.

    Raises StemError: as `mirror_images`.
    """
    return np.argsort(order)[mirror_images(stem)[order]]


def _channels(count: int) -> str:
    return "1 channel" if count == 1 else f"{count} channels"
