"""What the network has said of a site's validation and test pictures, kept until it is known which epoch's network the
run has come to: a file for each split and epoch, in a folder of the run.

Legend: N samples of a split, C classes or labels.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from mple.disk.bounded import UnsoundFileError, read_bounded
from mple.disk.private import make_private
from mple.disk.whole_files import write_whole
from mple.node.logs import warn
from mple.v1 import common_pb2

_NAMES = {common_pb2.SPLIT_VAL: "val", common_pb2.SPLIT_TEST: "test"}
_MOST_BYTES = 2**30
"""A split has 250 million logits at most."""


class KeptLogits:
    """The logits of one run."""

    def __init__(self, folder: Path) -> None:
        """Use a folder, making it with the first logits."""
        self._folder = folder

    def keep(self, split: common_pb2.Split, epoch: int, logits_NC: NDArray[np.float32]) -> None:
        """Keep what was scored after an epoch, counted from 1; it is on the disk when this returns."""
        make_private(self._folder)
        if split == common_pb2.SPLIT_TEST:  # the network that is kept is scored last
            self._drop("test", lambda other: other != epoch)
        write_whole(self._file(_NAMES[split], epoch), save({"logits": logits_NC}))

    def read(self, split: common_pb2.Split, epoch: int, samples: int, classes: int) -> NDArray[np.float32] | None:
        """The logits (N, C), None where they are not here, or are no such ones."""
        path = self._file(_NAMES[split], epoch)
        if not path.exists():
            return None
        try:
            logits_NC = load(read_bounded(path, _MOST_BYTES + 4096))["logits"]
            if logits_NC.shape != (samples, classes) or not np.isfinite(logits_NC).all():
                raise ValueError(f"its logits have the shape {logits_NC.shape}, or are not finite")
        except (OSError, UnsoundFileError, SafetensorError, KeyError, ValueError) as fault:
            warn("logits_lost", f"{path} can't be used, its split is not in the file of scores: {fault}")
            return None
        return logits_NC.astype(np.float32)

    def keep_only(self, best: int, until: int) -> None:
        """Of the validations up to an epoch none can be that of the network which the run comes to, but the best's."""
        self._drop("val", lambda epoch: epoch <= until and epoch != best)

    def clear(self) -> None:
        """Nothing of it is needed any more."""
        for name in _NAMES.values():
            self._drop(name, lambda _: True)
        if self._folder.exists() and not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _drop(self, name: str, gone: Callable[[int], bool]) -> None:
        for path in self._folder.glob(f"{name}-*.safetensors"):
            number = re.fullmatch(r"\d+", path.stem.partition("-")[2])
            if number is not None and gone(int(number[0])):
                path.unlink(missing_ok=True)

    def _file(self, name: str, epoch: int) -> Path:
        return self._folder / f"{name}-{epoch}.safetensors"
