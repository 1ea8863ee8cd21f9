"""What every kind of source has in common in the `[data]` section of a site's file; what pixels are normalised by."""

import math
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, ClassVar

from mple.data.images import Catalogue
from mple.data.limits import MOST_CLASSES
from mple.data.names import check_name
from mple.data.partitions import Partition
from mple.data.patients import Patients
from mple.data.picture_reading import PictureReading
from mple.ranges import Between, check_ranges


class Validation(StrEnum):
    """What becomes of a validation split."""

    VAL = "val"
    """It validates: scored after each epoch, it chooses the network; it is never trained on."""
    TRAIN = "train"
    """It is trained on: appended to the training images."""
    IGNORED = "ignored"
    """It is left out, as in figures that were published for the training split alone."""


Told = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, and how many there are."""
Wait = Callable[[float], object]
"""Waits for so many seconds, also for none; may raise to end what waits."""


def untold(_text: str, _done: int, _total: int) -> None:
    """Nobody listens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSource:
    """Where a site's images come from and which of them it uses.

    Every kind is a dataclass of its own beside its reader, see `mple.data.source`; it gives `kind` its only value.
    """

    levels_advice: ClassVar[str] = (
        "if their white is lower than their type's (4095 for 12 bits in 16), set white in [data]"
    )
    """What somebody is told whose pictures use few levels."""

    kind: str
    """What the set is kept as."""
    classes: tuple[str, ...] = ()
    """Class names in the order that all sites share; by default what the data say. A site without images of some class
    must state the list."""
    validation: Validation = Validation.VAL
    validation_share: Annotated[float, Between(0, 1, below=True)] = 0.0
    """Where no picture validates: the share of each class of this site's training images that is taken from them for
    validation, at random, after `most_train`; whole patients where the data say whose the pictures are."""
    patients: Patients = Patients.AUTO
    partition: Partition = field(default_factory=Partition)
    """The part of a common set that this site takes, in a simulation."""
    most_train: Annotated[int, Between(1)] | None = None
    """Most training images of this site, chosen at random after the partition."""
    most_test: Annotated[int, Between(0)] | None = None
    """Most test images of this site."""
    most_val: Annotated[int, Between(0)] | None = None
    """Most validation images of this site."""
    seed: Annotated[int, Between(0)] = 0
    """Of every choice at random but the partition's."""
    most_bytes: Annotated[int, Between(1)] = 16 * 1024**3
    """Largest set that is read: bytes of its arrays or decoded pictures by what its headers say."""

    def __post_init__(self) -> None:
        check_ranges(self)
        names = {unicodedata.normalize("NFC", name) for name in self.classes}
        if self.classes and (len(self.classes) < 2 or len(names) != len(self.classes)):
            raise ValueError(f"classes = {list(self.classes)}; name two at least, each once")
        for name in self.classes:
            check_name(name, "classes")
        if len(self.classes) > MOST_CLASSES:
            raise ValueError(f"{len(self.classes)} classes; at most {MOST_CLASSES}")
        if self.patients is Patients.FOLDER and self.kind != "folder":
            raise ValueError('patients = "folder" is for data of kind folder')

    def catalogue(self) -> Catalogue:
        """Class names and labels of the whole set.

        Raises DataError: something is missing, damaged or not what the settings say.
        """
        raise NotImplementedError(f"a reader of {self.kind}")

    def outline(self) -> Catalogue:
        """The same for a forecast, before anything is read: what takes long to verify need not be. Raises as
        `catalogue`."""
        return self.catalogue()

    def fetched(self, told: Told = untold, wait: Wait = time.sleep) -> "DataSource":
        """The same pictures on this machine: this source, unless they are kept elsewhere and must be fetched first.

        Raises DataError: they can't be fetched.
        """
        return self

    def absent(self) -> str:
        """What must be fetched before a picture can be read, as a sentence; empty where all is on this machine. Nothing
        is changed, and nobody is asked. Raises DataError: what is here can't be used."""
        return ""

    def reading(self) -> PictureReading:
        """How pictures that are no part of the set are read, for a prediction: as ordinary files, by default."""
        return PictureReading(most_bytes=self.most_bytes)


@dataclass(frozen=True, kw_only=True, slots=True)
class NormalisationSettings:
    """Pixels to network inputs: (pixel / 255 - mean) / std, one value for all channels or one each."""

    mean: tuple[float, ...] = (0.5,)
    """Of pixels from 0 to 1, the same for all sites."""
    std: tuple[float, ...] = (0.25,)
    """Their standard deviation, above 0."""

    def __post_init__(self) -> None:
        finite = all(map(math.isfinite, (*self.mean, *self.std)))
        if not self.mean or len(self.mean) != len(self.std) or not finite or min(self.std) <= 0:
            raise ValueError(f"mean = {self.mean}, std = {self.std}; need equal counts, finite, std above 0")
