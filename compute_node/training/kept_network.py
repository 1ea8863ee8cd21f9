"""The best network of a training so far, on the disk beside its checkpoints, which name the one that they rest on.

A file is `kept/<epoch>-<digest>.safetensors`, the digest the first half of its SHA-256. It is written once, when its
epoch turns out to be better than all before; a checkpoint that follows only names it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mple.disk.damage import DamagedError
from mple.disk.json_records import record_from_json, record_to_json
from mple.disk.private import make_private
from mple.disk.whole_files import write_whole
from mple.records.scores import TalliesBySite

_DIGEST_DIGITS = 32
_FIX = "start the node again: it trains on from what is sound"


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptNetwork:
    """A network and what it was judged by."""

    epoch: int
    """After which it was so, counted from 1."""
    weights: Mapping[str, Tensor]
    """The trunk's state."""
    val: TalliesBySite


@dataclass(frozen=True, kw_only=True, slots=True)
class _About:
    epoch: int
    val: TalliesBySite


class KeptNetworks:
    """The kept network of one plan, and while older checkpoints rest on them those before."""

    def __init__(self, path: Path) -> None:
        """Use a folder, which is made once there is a network; what an interrupted write has left is removed."""
        self._path = path
        for torn in path.glob("*.part"):
            torn.unlink()

    def write(self, kept: KeptNetwork, needed: Collection[str]) -> str:
        """Keep a network and return its name; it is on the disk then, and others that are not `needed` are gone.

        Raises OSError: the disk refused; nothing is gone.
        """
        about = {"about": record_to_json(_About(epoch=kept.epoch, val=kept.val))}
        content = save({name: tensor.detach().cpu().contiguous() for name, tensor in kept.weights.items()}, about)
        name = f"{kept.epoch:06d}-{hashlib.sha256(content).hexdigest()[:_DIGEST_DIGITS]}"
        make_private(self._path)
        write_whole(self._file(name), content)
        self.prune({name, *needed})
        return name

    def prune(self, needed: Collection[str]) -> None:
        """Remove all but the networks of these names."""
        for path in self._path.glob("*.safetensors"):
            if path.stem not in needed:
                path.unlink()

    def sound(self, name: str) -> bool:
        """Whether the network of this name is here as it was written."""
        path = self._file(name)
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return name.endswith(f"-{hashlib.file_digest(file, 'sha256').hexdigest()[:_DIGEST_DIGITS]}")

    def read(self, name: str) -> KeptNetwork:
        """The network of this name. Raises DamagedError: it is gone or damaged; OSError: the disk refused."""
        path = self._file(name)
        if not self.sound(name):
            raise DamagedError(path, "is gone or damaged", _FIX)
        try:
            with safe_open(path, framework="pt") as file:
                about = record_from_json(_About, file.metadata()["about"], str(path))
                weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (ValueError, SafetensorError, KeyError, TypeError) as fault:
            raise DamagedError(path, f"can't be used: {fault}", _FIX) from None
        return KeptNetwork(epoch=about.epoch, weights=weights, val=about.val)

    def _file(self, name: str) -> Path:
        return self._path / f"{name}.safetensors"
