"""First weights of a VGG-16 from a file, by torchvision's names of `vgg16` or `vgg16_bn`: safetensors or `.pth`.

The file's network is one with the run's stem and trunk in evaluation mode: the bias of each convolution goes into the
mean of the batch norm behind it, and a network without batch norms gets some that change nothing.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mple.disk.bounded import MEBIBYTE, UnsoundFileError, open_regular
from mple.disk.whole_files import file_sha256
from mple.model.settings import ModelSettings, WeightsFrom
from mple.model.stem import Stem, StemError
from mple.model.trunks import VGG16_STAGES, scaled
from mple.model.weights import build_trunk
from mple.printable import printable

_MOST_BYTES = 1024 * MEBIBYTE
"""Of a file: torchvision's have 528 MB."""
_WRAPPINGS = ("state_dict", "model")
"""Under which programs that train leave a network beside the rest."""
_NORM = ("weight", "bias", "running_mean", "running_var")
_EPS = nn.BatchNorm2d(1).eps
_LAST = ("classifier.weight", "classifier.bias")
"""A single layer behind the mean over positions, as in the networks that a run delivers."""
_LAST_IN_TRUNK = ("classifier.3.weight", "classifier.3.bias")
_OTHER_LAST = re.compile(r"classifier\.[036]\.(weight|bias)")
"""Torchvision's, of 4,096 values each."""


class WeightsError(ValueError):
    """A file of first weights can't be used; the text says why, and the way out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InitialWeights:
    """What a file holds: finite float32, of as many channels as the file has."""

    sha256: bytes
    """Of the file, 32 bytes."""
    stem: Stem
    convolutions: Mapping[str, Tensor]
    """Weights of the other convolutions and of all batch norms, biases folded in, by the trunk's names."""
    last: Mapping[str, Tensor]
    """Of the last layer, by the trunk's names; empty where the file has none that follows the mean over positions."""
    ignored: tuple[str, ...]
    """Names of torchvision's own last layers, of which a run has no use."""
    metadata: Mapping[str, str]
    """Texts beside the tensors of a safetensors file."""

    @classmethod
    def from_file(cls, path: Path) -> InitialWeights:
        """Read a safetensors file, or one that `torch.save` wrote of a state dict; of the latter nothing but tensors is
        unpickled. Names may begin with `module.`, and the dict may lie under `state_dict` or `model` in another.

        Raises WeightsError: there is no regular file, it is larger than 1 GiB, holds anything but tensors, or the
        tensors are not those of a VGG-16: one is missing, unknown, of another shape or type, or has NaN or infinity.
        """
        try:
            with open_regular(path, _MOST_BYTES) as file:
                start = file.read(9)
            sha256 = file_sha256(path)
            read = _read_safetensors if start[8:] == b"{" else _read_pth
            tensors, metadata = read(path)
        except FileNotFoundError:
            raise WeightsError(f"no file of weights at {path}") from None
        except UnsoundFileError as fault:
            raise WeightsError(f"{fault}; needs a VGG-16's state dict alone") from None
        except OSError as fault:
            raise WeightsError(f"{path} can't be read: {fault}") from None
        return _converted(tensors, path, metadata, sha256)

    @property
    def channels(self) -> tuple[int, ...]:
        """Output channels of the thirteen convolutions."""
        return tuple(len(self.convolutions[f"features.{place}.weight"]) for place in _TRUNK_PLACES)


def initial_trunk(model: ModelSettings, classes: int, seed: int, weights: InitialWeights | None = None) -> nn.Module:
    """A trunk with a run's first weights: drawn from the seed, and what `model.weights` names replaced by the file's.

    Raises WeightsError: the settings want a file and there is none, or the other way round; or the file's network has
    another width or, where its last layer is wanted, none or one of another number of classes.
    """
    if model.from_file != (weights is not None):
        raise WeightsError(
            f'model.weights = "{model.weights}", and {"no" if weights is None else "a"} weights_file; a file goes with '
            'weights = "features" or "network"'
        )
    trunk = build_trunk(model, classes, seed)
    if weights is None:
        return trunk
    _require_width(model.width, weights)
    taken = dict(weights.convolutions)
    if model.weights is WeightsFrom.NETWORK:
        taken |= _last_layer(weights, classes)
    trunk.load_state_dict(taken, strict=False)  # batches are counted, and a last layer may be drawn, as in any run
    return trunk


def _require_width(width: float, weights: InitialWeights) -> None:
    full, found = [one for stage in VGG16_STAGES for one in stage], list(weights.channels)
    if found == [scaled(one, width) for one in full]:
        return
    other = found[-1] / full[-1]
    fits = other <= 1 and found == [scaled(one, other) for one in full]
    cure = f"set model.width = {other:g}" if fits else "no model.width gives such a network; bring another"
    raise WeightsError(
        f"the file's convolutions have {', '.join(map(str, found))} channels; at model.width = {width:g} those of the "
        f"run have {', '.join(str(scaled(one, width)) for one in full)}: {cure}"
    )


def _last_layer(weights: InitialWeights, classes: int) -> Mapping[str, Tensor]:
    cure = 'set model.weights = "features", which draws the last layer'
    if not weights.last:
        raise WeightsError(
            f'model.weights = "network", but the file has no last layer {_LAST[0]} behind the mean over positions, as '
            f"networks have that a run delivered (torchvision's of three layers is another network); {cure}"
        )
    found = len(weights.last[_LAST_IN_TRUNK[0]])
    if found != classes:
        raise WeightsError(f"the file's last layer has {found} classes, the run {classes}; {cure}")
    return weights.last


def _read_safetensors(path: Path) -> tuple[Mapping[str, Any], dict[str, str]]:
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except SafetensorError as fault:
        raise WeightsError(f"{path} is no safetensors file, or damaged: {fault}") from None


def _read_pth(path: Path) -> tuple[Mapping[str, Any], dict[str, str]]:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > _MOST_BYTES:
                raise UnsoundFileError(f"{path} unpacks to {unpacked:,} bytes; at most {_MOST_BYTES:,} are read")
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError, UnsoundFileError):
        raise
    except Exception:  # a damaged file may raise anything; torch's own text would have the user run what is in it
        raise WeightsError(
            f"{path} is neither safetensors nor an undamaged file of torch.save with tensors alone; whatever else one "
            "holds would be run as code: save the network's state_dict()"
        ) from None
    for wrapping in _WRAPPINGS:
        if isinstance(found, Mapping) and isinstance(found.get(wrapping), Mapping):
            found = found[wrapping]
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise WeightsError(f"{path} holds no tensors by name; save the network's state_dict()")
    return found, {}


def _places(batch_norm: bool) -> Iterator[int]:
    """Numbers of the convolutions in torchvision's `features`; behind each lie its batch norm, if any, and a
    rectifier."""
    at = 0
    for stage in VGG16_STAGES:
        for _ in stage:
            yield at
            at += 3 if batch_norm else 2
        at += 1


_TRUNK_PLACES = tuple(_places(batch_norm=True))
"""Numbers of the batch norms in the trunk's `features`, each behind its convolution. The trunk begins with that of the
stem, so that its layers lie one place before those of a whole network."""


def _converted(tensors: Mapping[str, Any], path: Path, metadata: Mapping[str, str], sha256: bytes) -> InitialWeights:
    file = _File(tensors, path)
    stem = file.stem()
    convolutions: dict[str, Tensor] = {}
    before = stem.filters
    for place, trunk_place in zip(_places(file.batch_norm), _TRUNK_PLACES, strict=True):
        if place:
            weight = file.take(f"features.{place}.weight", (None, before, 3, 3))
            convolutions[f"features.{trunk_place - 1}.weight"] = weight
            before = len(weight)
        norm = file.norm(place + 1, before)
        norm["running_mean"] = norm["running_mean"] - file.take(f"features.{place}.bias", (before,))
        convolutions |= {f"features.{trunk_place}.{what}": values for what, values in norm.items()}
    last = file.last_layer(before)
    ignored = file.end()
    return InitialWeights(
        sha256=sha256, stem=stem, convolutions=convolutions, last=last, ignored=ignored, metadata=metadata
    )


class _File:
    """A file's tensors, which are taken one by one."""

    def __init__(self, tensors: Mapping[str, Any], path: Path) -> None:
        self._left = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
        self._path = path
        self.batch_norm = any(name.endswith(".running_mean") for name in self._left)
        """Whether the network has batch norms."""

    def stem(self) -> Stem:
        """The first convolution's kernels."""
        kernels = self.take("features.0.weight", None)
        try:
            return Stem(kernels.numpy())
        except StemError as fault:
            trunk = "; it is a trunk without its first layer: take the file that a site was given" * (kernels.ndim == 1)
            raise WeightsError(f"{self._path}: features.0.weight: {fault}{trunk}") from None

    def norm(self, place: int, channels: int) -> dict[str, Tensor]:
        """A batch norm; where the network has none, one that gives what it takes."""
        if not self.batch_norm:  # (x - mean) / sqrt(var + eps) * weight + bias
            ones, zeros = torch.ones(channels), torch.zeros(channels)
            return dict(zip(_NORM, (ones, zeros, zeros, torch.full((channels,), 1 - _EPS)), strict=True))
        self._left.pop(f"features.{place}.num_batches_tracked", None)
        norm = {what: self.take(f"features.{place}.{what}", (channels,)) for what in _NORM}
        if (norm["running_var"] < 0).any():
            raise WeightsError(f"{self._path}: features.{place}.running_var has values below 0")
        return norm

    def last_layer(self, channels: int) -> dict[str, Tensor]:
        """The last layer by the trunk's names, if the file has one behind the mean over positions."""
        if not any(name in self._left for name in _LAST):
            return {}
        weight = self.take(_LAST[0], (None, channels))
        return dict(zip(_LAST_IN_TRUNK, (weight, self.take(_LAST[1], (len(weight),))), strict=True))

    def take(self, name: str, shape: tuple[int | None, ...] | None) -> Tensor:
        """A tensor as float32; sides that are None may be any."""
        tensor = self._left.pop(name, None)
        if tensor is None:
            raise WeightsError(f"{self._path} has no {name}; needs all tensors of torchvision's vgg16 or vgg16_bn")
        if not isinstance(tensor, Tensor) or tensor.layout is not torch.strided or not tensor.is_floating_point():
            kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise WeightsError(f"{self._path}: {name} is {kind}; needs a dense tensor of floating point numbers")
        found = tuple(tensor.shape)
        if 0 in found or tensor.numel() * 4 > _MOST_BYTES or (shape is not None and not _fits(found, shape)):
            needed = "" if shape is None else "; needs " + str(shape).replace("None", "any")
            raise WeightsError(f"{self._path}: {name} has shape {found}{needed}")
        numbers = tensor.detach().to(torch.float32).contiguous()
        if not torch.isfinite(numbers).all():
            raise WeightsError(f"{self._path}: {name} holds NaN or infinity")
        return numbers

    def end(self) -> tuple[str, ...]:
        """Names of torchvision's own last layers, which are left; nothing else may be."""
        heads = sorted(name for name in self._left if _OTHER_LAST.fullmatch(name))
        strange = sorted(self._left.keys() - set(heads))
        if strange:
            names = ", ".join(printable(name, 60) for name in strange[:3])
            raise WeightsError(f"{self._path} has {names}, which VGG-16 has not; needs torchvision's vgg16 or vgg16_bn")
        return tuple(heads)


def _fits(found: tuple[int, ...], shape: tuple[int | None, ...]) -> bool:
    return len(found) == len(shape) and all(n in (None, m) for n, m in zip(shape, found, strict=True))
