"""Checkpoints written while training goes on: the trainer copies its state, another thread writes the copy."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from compute_node.training.checkpoint import Checkpoint, CheckpointFolder


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

        Raises:
            OSError: That one could not be written; the earlier ones are still there.
        """
        if self._writing is not None:
            self._writing.result()
        copies = {name: tensor.clone() for name, tensor in checkpoint.tensors.items()}
        copied_s = time.monotonic()
        self._writing = self._pool.submit(self._write, Checkpoint(checkpoint.position, copies), copied_s)

    def raise_fault(self) -> None:
        """Raise what the last write has ended with, if it has failed.

        Raises:
            OSError: The disk refused.
        """
        if self._writing is not None and self._writing.done():
            self._writing.result()

    def _write(self, checkpoint: Checkpoint, copied_s: float) -> None:
        self._before()
        self._folder.write(checkpoint)
        self.written_s = copied_s
