"""Checkpoints of a training: all that its next step depends on, so that a restart goes on as if nothing had been.

A file is `checkpoints/<steps>-<digest>.safetensors`. It gets its name only when it is whole and on the disk, and the
name holds the first half of its SHA-256: a damaged file is found and the one before it is used. Two are kept. They are
written while training goes on: the trainer copies its state, another thread writes the copy. The network that is kept
so far lies beside them, see `compute_node.training.kept_network`; a checkpoint names the one that it rests on.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from compute_node.training.kept_network import KeptNetworks
from mple.disk.json_records import record_from_json, record_to_json
from mple.disk.private import make_private
from mple.disk.scarcity import scarcity_of
from mple.disk.whole_files import write_whole
from mple.model.device import HostCopies
from mple.node.logs import warn
from mple.plan.keeping import Judged

_KEPT = 2
_DIGEST_DIGITS = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """How far a training had come."""

    plan_sha256: str
    epoch: int
    """Counted from 0."""
    step: int
    """Steps of this epoch that are done."""
    steps_done: int
    """Steps of all epochs that the optimiser has taken."""
    train_seconds: float
    epoch_seconds: float
    """The part of `train_seconds` in this epoch."""
    spent_seconds: dict[str, float]
    """What `TrainerTime.seconds` said."""
    read_ahead_seconds: float
    samples_trained: int
    metrics_bytes: int
    """Length of the metrics file."""
    ledger_messages: int
    """Messages in the node's ledger, for whoever compares ledgers with a checkpoint."""
    judged: Judged
    """What validation has said of the epochs before."""
    kept: str
    """Name of the network that is kept so far; empty where the last one will be."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A position and the tensors that belong to it."""

    position: Position
    tensors: dict[str, Tensor]


class CheckpointFolder:
    """The checkpoints of one plan."""

    def __init__(self, path: Path, plan_sha256: str) -> None:
        """Use a folder, making it at first use; what an interrupted write has left is removed."""
        self._path, self._plan_sha256 = path, plan_sha256
        make_private(path)
        self.kept = KeptNetworks(path / "kept")
        for torn in path.glob("*.part"):
            torn.unlink()

    def write(self, checkpoint: Checkpoint) -> Path:
        """Keep a checkpoint; it is on the disk when this returns, and the oldest beyond two are gone.

        Raises OSError: the disk refused; the earlier checkpoints stay.
        """
        about = {"position": record_to_json(checkpoint.position)}
        content = save({name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}, about)
        digest = hashlib.sha256(content).hexdigest()[:_DIGEST_DIGITS]
        path = self._path / f"{checkpoint.position.steps_done:012d}-{digest}.safetensors"
        write_whole(path, content)
        for old in self._files()[_KEPT:]:
            old.unlink()
        return path

    def kept_names(self) -> set[str]:
        """Names of the kept networks that the checkpoints on the disk rest on."""
        names = set()
        for path in self._files():
            damaged = contextlib.suppress(ValueError, SafetensorError, TypeError, KeyError)  # nobody goes on from there
            with damaged, safe_open(path, framework="pt") as tensors:
                names.add(_position(tensors.metadata()).kept)
        return names

    def newest(self) -> Checkpoint | None:
        """The newest sound checkpoint of the plan whose kept network is sound, too, or None; others are removed."""
        for path in self._files():
            try:
                checkpoint = _read(path)
                if checkpoint.position.kept and not self.kept.sound(checkpoint.position.kept):
                    raise ValueError(f"the network {checkpoint.position.kept} that it rests on is gone or damaged")
            except (ValueError, SafetensorError, OSError, TypeError, KeyError) as fault:
                if scarcity_of(fault) is not None:
                    raise  # it may be sound
                warn("checkpoint_damaged", f"{path} can't be used: {fault}")
                path.unlink()
                continue
            if checkpoint.position.plan_sha256 == self._plan_sha256:
                return checkpoint
            path.unlink()
        return None

    def clear(self) -> None:
        """Remove all, the kept network, too: the training is over."""
        for path in self._files():
            path.unlink()
        self.kept.prune(())

    def _files(self) -> list[Path]:
        return sorted(self._path.glob("*.safetensors"), reverse=True)


def _read(path: Path) -> Checkpoint:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:_DIGEST_DIGITS]
    if not path.stem.endswith(f"-{digest}"):
        raise ValueError("its bytes are not those that its name was made from")
    with safe_open(path, framework="pt") as tensors:
        return Checkpoint(_position(tensors.metadata()), {name: tensors.get_tensor(name) for name in tensors.keys()})  # noqa: SIM118


def _position(about: Mapping[str, str]) -> Position:
    return record_from_json(Position, about["position"], "its position")


class CheckpointWriter:
    """Writes one checkpoint at a time. A context manager: on the way out the last one is written."""

    def __init__(self, folder: CheckpointFolder, before: Callable[[], None]) -> None:
        """Write to a folder.

        Args:
            folder: Of the plan.
            before: Brings onto the disk, in the writing thread, what a checkpoint refers to.
        """
        self._folder, self._before = folder, before
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self.written_s: float | None = None
        """When, on the monotonic clock, the state was copied that the newest whole checkpoint holds."""

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._pool.shutdown()
        if kind is None:
            self.raise_fault()

    def write(self, checkpoint: Checkpoint) -> None:
        """Begin to write; the tensors may be changed as soon as this returns.

        Waits until the checkpoint before is written, so no more than one copy is held.

        Raises OSError: that one could not be written; the earlier ones are still there.
        """
        self.settle()
        copies = HostCopies(checkpoint.tensors)
        copied_s = time.monotonic()
        self._writing = self._pool.submit(self._write, checkpoint.position, copies, copied_s)

    def settle(self) -> None:
        """Wait until no checkpoint is being written. Raises OSError: the last one could not be."""
        if self._writing is not None:
            self._writing.result()

    def raise_fault(self) -> None:
        """Raise what the last write has ended with, if it has failed. Raises OSError: the disk refused."""
        if self._writing is not None and self._writing.done():
            self._writing.result()

    def _write(self, position: Position, copies: HostCopies, copied_s: float) -> None:
        self._before()
        self._folder.write(Checkpoint(position, copies.wait()))
        self.written_s = copied_s
