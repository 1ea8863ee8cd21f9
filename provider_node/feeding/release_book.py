"""How often each sample has left the site, so that no request gets more than the plan allows.

Counts are kept in a file of one byte per sample and survive a restart: the limit holds for the run, not the process.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mple.disk.whole_files import write_whole
from mple.v1 import common_pb2


class ReleaseError(ValueError):
    """A request goes beyond the plan; `limit` tells too often from not this site's."""

    def __init__(self, text: str, *, limit: bool) -> None:
        super().__init__(text)
        self.limit = limit


class ReleaseBook:
    """Counts releases of both splits."""

    def __init__(self, path: Path, *, train: int, test: int, most: int) -> None:
        """Open or make the file of a run.

        Args:
            path: The file; one per run.
            train: Training samples of the site.
            test: Its test samples.
            most: Releases of one sample that the plan allows.

        Raises ValueError: the file is of other sizes.
        """
        total = train + test
        if not path.exists():
            write_whole(path, bytes(total))
        if path.stat().st_size != total:
            raise ValueError(f"{path} counts {path.stat().st_size} samples, the site has {total}; remove it")
        self._counts = np.memmap(path, np.uint8, mode="r+", shape=(total,)) if total else np.empty(0, np.uint8)
        self._spans = {common_pb2.SPLIT_TRAIN: (0, train), common_pb2.SPLIT_TEST: (train, test)}
        self._most = most

    def release(self, split: common_pb2.Split, samples: Sequence[int]) -> int:
        """Count one release of each of these samples, or of none of them; returns how many were released before.

        Raises:
            ReleaseError: No sample is named, or one is not the site's, comes twice, or has been released often enough.
        """
        if split not in self._spans:
            raise ReleaseError(f"split {split} is not one of the plan's", limit=False)
        start, size = self._spans[split]
        places = np.asarray(samples, np.int64)
        if not places.size:
            raise ReleaseError("a request names no sample", limit=False)
        outside = places[(places < 0) | (places >= size)]
        if outside.size:
            raise ReleaseError(f"sample {int(outside[0])} was asked for; the split has {size}, from 0", limit=False)
        if len(np.unique(places)) != len(places):
            raise ReleaseError("a request names a sample twice", limit=False)
        counts = self._counts[start + places]
        if counts.max() >= self._most:
            sample = int(places[int(counts.argmax())])
            raise ReleaseError(
                f"sample {sample} was already sent {int(counts.max())} times; the plan allows {self._most}", limit=True
            )
        self._counts[start + places] = counts + 1
        return int(np.count_nonzero(counts))
