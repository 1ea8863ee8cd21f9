"""The folder of a delivered network in a site's state: `model/`, its files with their digests in `model.json`.

`model.json` is removed before the others change and written after them: where it is, it is true of all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mple.data.picture_reading import PictureReading
from mple.delivered.about import NetworkAbout
from mple.delivered.check import Check
from mple.delivered.onnx_file import OPSET
from mple.delivered.running import PlainNetwork
from mple.delivered.tensor_file import network_from_safetensors
from mple.disk.bounded import MEBIBYTE, read_bounded
from mple.disk.damage import DamagedError
from mple.disk.json_records import read_record, write_record
from mple.disk.private import make_private
from mple.disk.whole_files import fsync_folder, write_whole
from mple.plan import DeliveredDtype
from mple.ranges import Ranged
from mple.records.site_scores import Threshold
from mple.records.state_files import DELIVERED

RECORD, WEIGHTS, ONNX, CARD = "model.json", "model.safetensors", "model.onnx", "model_card.md"
_MOST_BYTES = 1024 * MEBIBYTE
_FIX = "start the site again while the run lasts, or take the folder from another copy"


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveredRecord(Ranged):
    """`model.json`."""

    about: NetworkAbout
    site: str
    check: Check
    reading: PictureReading
    """How the site's pictures were read, so that new ones are read alike."""
    dtype: DeliveredDtype
    """Numbers in which the trunk came."""
    network_sha256: str
    """Of the trunk's file as it came, hexadecimal."""
    sha256: Mapping[str, str]
    """Of `model.safetensors` and `model.onnx`, hexadecimal."""
    delivered_at: datetime
    opset: int = OPSET
    """Of ONNX's operators."""
    thresholds: Mapping[str, Threshold] = field(default_factory=dict)
    """By class or label: from where on it counts as present, where the validation pictures of all sites have chosen."""
    scored: bool = False
    """Whether thresholds and the card have what the run's end has told, see `mple.delivered.scored`."""


@dataclass(frozen=True, slots=True)
class DeliveredNetwork:
    """A folder that holds a whole network; its files are read, and their digests checked, when they are asked for."""

    folder: Path
    record: DeliveredRecord = field(repr=False)

    @classmethod
    def at(cls, path: Path) -> Self:
        """The network of a folder, or of a site's state folder.

        Raises ValueError: there is none, or its record is damaged; the text says which and what to do.
        """
        for folder in (path, path / DELIVERED):
            if (folder / RECORD).is_file():
                return cls(folder, read_record(DeliveredRecord, folder / RECORD, _FIX))
        raise ValueError(
            f"{path} holds no delivered network: name a site's state folder, or a folder with {RECORD}; a run delivers "
            'with delivery.to = "sites", at its end'
        )

    def content(self, name: str) -> bytes:
        """A file's bytes. Raises DamagedError: it is gone, or not as it was delivered; OSError: it can't be read."""
        path = self.folder / name
        try:
            content = read_bounded(path, _MOST_BYTES)
        except FileNotFoundError:
            raise DamagedError(path, "is gone", _FIX) from None
        if sha256(content).hexdigest() != self.record.sha256.get(name):
            raise DamagedError(path, f"is not the one that was delivered: its digest is not that in {RECORD}", _FIX)
        return content

    def card(self) -> str:
        """The text of its card, as it is now: people may have filled it in, so that it has no digest.

        Raises DamagedError: it is gone; OSError: it can't be read.
        """
        try:
            return read_bounded(self.folder / CARD).decode("utf-8", "replace")
        except FileNotFoundError:
            raise DamagedError(self.folder / CARD, "is gone", _FIX) from None

    def plain(self) -> PlainNetwork:
        """The network, to be asked. Raises as `tensors`."""
        return PlainNetwork(self.tensors(), self.record.about)

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """Its weights, by torchvision's names. Raises as `content`, and ValueError: the file is another network's."""
        about, tensors = network_from_safetensors(self.content(WEIGHTS), str(self.folder / WEIGHTS))
        if about != self.record.about:
            raise ValueError(
                f"{self.folder}: {WEIGHTS} is a network of run {about.run_id}, not of {self.record.about.run_id}"
            )
        return tensors


def write_delivered(folder: Path, record: DeliveredRecord, files: Mapping[str, bytes]) -> None:
    """Write all files of a network in place of those of another; on the disk when this returns.

    Raises OSError: the disk refuses; there is no `model.json` then.
    """
    make_private(folder)
    (folder / RECORD).unlink(missing_ok=True)
    fsync_folder(folder)
    for name, content in files.items():
        write_whole(folder / name, content)
    write_record(folder / RECORD, record)


def copy_delivered(network: DeliveredNetwork, to: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Copy files of a network into a new folder, with a `model.json` that knows these alone; returns all their names.

    Raises ValueError: the folder holds something; DamagedError: a file is gone, or not as it was delivered; OSError:
    the disk refuses.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ValueError(f"{to} is not empty; name a new folder")
    files = {name: network.card().encode() if name == CARD else network.content(name) for name in names}
    digests = {name: digest for name, digest in network.record.sha256.items() if name in files}
    write_delivered(to, replace(network.record, sha256=digests), files)
    return (*files, RECORD)
