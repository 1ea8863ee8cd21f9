"""What a site was answered about some of its own pictures, kept to compare the delivered network with.

Of the test pictures, or where a site has none, of validation pictures: those that are kept lie evenly over the split.
Test answers are on the disk, since the network may come after a restart; validation answers are many, one set for each
epoch that may be the kept one, and are in memory alone.

Legend: K pictures that are kept, C classes or labels.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from mple.data import Dataset
from mple.disk.bounded import UnsoundFileError, read_bounded
from mple.disk.whole_files import write_whole
from mple.node.logs import warn
from mple.v1 import common_pb2

_MOST_PIXELS, _LEAST_PICTURES, _MOST_VAL = 2**20, 16, 64
"""So many test pictures as have that many pixels: 1,024 of 32 x 32, 20 of 224 x 224; at least and, of validation
pictures, at most so many."""


class KeptAnswers:
    """Logits of one run, in the site's own order of classes."""

    def __init__(self, path: Path, dataset: Dataset) -> None:
        """Take up what an earlier process has kept at `path`; damaged, it is as if it were not there."""
        self._path, self._dataset = path, dataset
        self._split = "test" if len(dataset.test) else "val"
        self._due = common_pb2.SPLIT_TEST if len(dataset.test) else common_pb2.SPLIT_VAL
        images = dataset.test if len(dataset.test) else dataset.val
        most = max(_LEAST_PICTURES, _MOST_PIXELS // (images.pixels_NCHW.shape[2] * images.pixels_NCHW.shape[3]))
        if self._split == "val":
            most = min(most, _MOST_VAL)
        count = len(images)
        self._ids_K = np.unique(np.linspace(0, max(0, count - 1), min(count, most)).astype(np.int64))
        self._by_epoch: dict[int, NDArray[np.float32]] = {}
        self._take_up()

    def keep(self, split: common_pb2.Split, epoch: int, logits_NC: NDArray[np.float32]) -> None:
        """Keep what is wanted of the logits of a whole split after an epoch, in the site's own order of classes.

        Raises OSError: the disk refuses.
        """
        if split != self._due or not len(self._ids_K):
            return
        kept_KC = logits_NC[self._ids_K]
        if self._split == "test":  # of the network that is kept, which is scored last
            self._by_epoch = {epoch: kept_KC}
            write_whole(self._path, save({"epoch": np.array([epoch], np.int64), "logits": kept_KC}))
        else:
            self._by_epoch[epoch] = kept_KC

    def of_epoch(self, epoch: int) -> tuple[str, NDArray[np.uint8], NDArray[np.float32]] | None:
        """The split, pictures (K, channels, height, width) and answers (K, C) after an epoch, None where there are
        none."""
        kept_KC = self._by_epoch.get(epoch)
        if kept_KC is None:
            return None
        images = self._dataset.test if self._split == "test" else self._dataset.val
        return self._split, images.take(self._ids_K).pixels_NCHW, kept_KC

    def why_none(self) -> str:
        """Why there is nothing to compare with."""
        if not len(self._ids_K):
            return "the site has neither test nor validation pictures"
        return f"the site was started again after its {self._split} pictures were scored, or they were not scored"

    def forget(self) -> None:
        """They have been compared."""
        self._by_epoch.clear()
        self._path.unlink(missing_ok=True)

    def _take_up(self) -> None:
        try:
            kept = load(read_bounded(self._path))
            logits_KC = kept["logits"]
            if logits_KC.shape != (len(self._ids_K), len(self._dataset.classes)) or logits_KC.dtype != np.float32:
                raise ValueError(f"its answers have shape {logits_KC.shape}")
            self._by_epoch = {int(kept["epoch"][0]): logits_KC}
        except FileNotFoundError:
            return
        except (SafetensorError, UnsoundFileError, ValueError, KeyError, IndexError) as fault:
            warn("answers_damaged", f"{self._path} is damaged; the network can't be compared with it: {fault}")
