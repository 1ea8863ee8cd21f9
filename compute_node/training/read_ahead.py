"""Samples read, decoded and sent to the device off the trainer's thread, one step ahead of it.

Legend: B samples, K blocks, Q core side. A *number* counts a split's samples over all sites of the plan.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compute_node.feeding.intake import Intake
from compute_node.feeding.sample_cache import SampleCache
from compute_node.layers.layer_bank import LayerBank
from mple.model.device import Device, Sent
from mple.v1 import common_pb2


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a step, or a part of a scoring, needs."""

    split: common_pb2.Split
    numbers: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ReadySamples:
    """Those wanted samples that are here, decoded."""

    wanted: Wanted
    numbers: NDArray[np.int64]
    keys_B: NDArray[np.int64]
    """Number of the key that each was morphed under."""
    sent: Sent
    """Values and labels, on their way to the device."""

    @property
    def t_BKQ(self) -> Tensor:
        """float32, on the device."""
        return self.sent.received()[0]

    @property
    def labels_B(self) -> Tensor:
        """int64, on the device; of labels (B, L)."""
        return self.sent.received()[1]


class ReadAhead:
    """Waits for samples, reads and decodes them, and begins to copy them to the device. A context manager: on the way
    out its thread ends."""

    def __init__(self, intake: Intake, cache: SampleCache, bank: LayerBank, device: Device) -> None:
        self._intake, self._cache, self._bank, self._device = intake, cache, bank, device
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self.busy_seconds = 0.0
        """Time of reading and decoding, in whichever thread; waiting for the sites is not in it."""

    def __enter__(self) -> ReadAhead:
        # Torch would give this thread, and those that begin later, as many helpers as the trainer has, which takes the
        # cores from it. The caller keeps its own number, as soon as it has asked for it once.
        torch.get_num_threads()
        self._pool.submit(torch.set_num_threads, 1).result()
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def in_turn(self, items: Iterable[Wanted]) -> Iterator[Future[ReadySamples]]:
        """The samples of each item; whenever one is taken, the next is begun."""
        coming: Future[ReadySamples] | None = None
        for item in items:
            following = self._pool.submit(self.read, item)
            if coming is not None:
                yield coming
            coming = following
        if coming is not None:
            yield coming

    def read(self, wanted: Wanted) -> ReadySamples:
        """Wait for samples, read and decode them, in the caller's thread. Raises MpleError: as `Intake.wait_for`."""
        while True:
            numbers = self._intake.wait_for(wanted.split, wanted.numbers)
            began_s = time.monotonic()
            try:
                cached = self._cache.read(wanted.split, numbers)
            except KeyError:
                continue  # some were erased with a revoked key in between, and are asked for anew
            t_BKQ = torch.from_numpy(self._bank.decoded(cached.coded, cached.keys_B))
            sent = self._device.send(t_BKQ, torch.from_numpy(cached.labels_B))
            self.busy_seconds += time.monotonic() - began_s
            return ReadySamples(wanted, numbers, cached.keys_B, sent)
