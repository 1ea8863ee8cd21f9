"""The `[data]` section of a site's configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from mple.data.partitions import Partition


class SourceKind(StrEnum):
    """What a data set is kept as."""

    CIFAR10 = "cifar10"
    """The official binary files, as `mple data fetch cifar10` keeps them."""
    NPZ = "npz"
    """One NumPy archive with MedMNIST's keys, or x_train, y_train, x_test, y_test."""
    FOLDER = "folder"
    """Pictures in a folder per class, under `train` and `test` or under one root."""
    DICOM = "dicom"
    """DICOM files with a CSV table of labels."""


class Channels(StrEnum):
    """Colours of pictures that come as files."""

    AUTO = "auto"
    """One channel where all files are stored as grey, else three. Sites must agree, so state it where files vary."""
    GREY = "grey"
    RGB = "rgb"


class Validation(StrEnum):
    """What becomes of a validation split, which a run has no use for."""

    TRAIN = "train"
    """It is appended to the training images."""
    IGNORED = "ignored"
    """It is left out, as in figures that were published for the training split alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSource:
    """Where a site's images come from and which of them it uses."""

    kind: SourceKind
    path: Path | None = None
    """File or folder; of `cifar10` by default the folder that `mple data fetch` fills."""
    classes: tuple[str, ...] = ()
    """Class names in the order that all sites share; by default what the data say. A site without images of some class
    must state the list."""
    side_px: int | None = None
    """Of `folder` and `dicom`: pictures are resized to this width and height, their aspect ratio is not kept."""
    channels: Channels = Channels.AUTO
    """Of `folder` and `dicom`."""
    validation: Validation = Validation.TRAIN
    test_share: float = 0.2
    """Of `folder` and `dicom` without a test split: the share of each class held out for testing, 0 to below 1."""
    label_file: Path | None = None
    """Of `dicom`: CSV table with the columns file, label and, if wanted, split; by default `labels.csv` in the
    folder."""
    window: tuple[float, ...] = ()
    """Of `dicom`: centre and width of grey values after the modality transform, for all files alike; by default each
    file's own."""
    partition: Partition = field(default_factory=Partition)
    """The part of a common set that this site takes, in a simulation."""
    most_train: int | None = None
    """Most training images of this site, chosen at random after the partition, 1 or more."""
    most_test: int | None = None
    """Most test images of this site, 0 or more."""
    seed: int = 0
    """Of `test_share`, `most_train` and `most_test`."""
    most_bytes: int = 16 * 1024**3
    """Largest set that is read: bytes of its arrays or decoded pictures by what its headers say."""

    def __post_init__(self) -> None:
        if self.kind is not SourceKind.CIFAR10 and self.path is None:
            raise ValueError(f'data of kind "{self.kind}" need a path')
        _refuse_foreign(self)
        if self.classes and (len(self.classes) < 2 or len(set(self.classes)) != len(self.classes)):
            raise ValueError(f"classes = {list(self.classes)}; name two at least, each once")
        if not all(name.strip() for name in self.classes):
            raise ValueError(f"classes = {list(self.classes)}; a name is empty")
        if self.side_px is not None and not 1 <= self.side_px <= 4096:
            raise ValueError(f"side_px = {self.side_px}; allowed are 1 to 4096")
        if not 0 <= self.test_share < 1:
            raise ValueError(f"test_share = {self.test_share}; allowed are 0 to below 1")
        if self.window and (len(self.window) != 2 or not self.window[1] >= 1):
            raise ValueError(f"window = {list(self.window)}; needs centre and width, the width 1 or more")
        if self.most_train is not None and self.most_train < 1:
            raise ValueError(f"most_train = {self.most_train}; allowed are 1 and above")
        if self.most_test is not None and self.most_test < 0:
            raise ValueError(f"most_test = {self.most_test}; allowed are 0 and above")
        if self.seed < 0 or self.most_bytes < 1:
            raise ValueError(f"seed = {self.seed}, most_bytes = {self.most_bytes}; allowed are from 0 and from 1")


def _refuse_foreign(source: DataSource) -> None:
    """A setting that its kind of source would ignore is a mistake."""
    if source.kind not in (SourceKind.FOLDER, SourceKind.DICOM):
        if source.side_px is not None:
            raise ValueError(f'side_px = {source.side_px} with kind = "{source.kind}"; only folder and dicom resize')
        if source.channels is not Channels.AUTO:
            raise ValueError(f'channels = "{source.channels}" is for folder and dicom, not for kind = "{source.kind}"')
    if source.kind is not SourceKind.DICOM and (source.label_file is not None or source.window):
        raise ValueError(f'label_file and window are for dicom, not for kind = "{source.kind}"')
