"""Splitting one common set over the sites of a simulation.

Every site reads the same set and takes its own part; nobody hands parts out. Pure. The seed is public: it makes a
split repeatable, not secret.

Legend: N images, P parts, Y classes, U patients. *Owners* are an int64 array (N): the part that each image belongs to,
so that no image can be in two parts. What comes once a split has the order of `SPLITS`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mple.data.images import DataError
from mple.ranges import Between, check_ranges

Indices = NDArray[np.int64]
Owners = NDArray[np.int64]
SPLITS = ("train", "test", "val")
NOBODY = -1
"""Owner of an image that explicit lists leave out."""
_SHARES_STREAM, _TRAIN_STREAM, _TEST_STREAM, _HOLD_OUT_STREAM, _SUBSAMPLE_STREAM, _VAL_STREAM = range(6)
_FEWER = "take fewer parts, in a simulation fewer sites, or a larger set"
_SPLIT_STREAMS = (_TRAIN_STREAM, _TEST_STREAM, _VAL_STREAM)


class PartitionKind(StrEnum):
    """How a common set comes to parts."""

    ALL = "all"
    """No split: the site has the whole set."""
    IID = "iid"
    """Equal shares at random."""
    DIRICHLET = "dirichlet"
    """Each class spread over the parts by a Dirichlet draw (Hsu, Qi & Brown, 2019); of several labels pictures by
    their rarest one."""
    QUANTITY = "quantity"
    """Unequal shares at random."""
    LIST = "list"
    """Lists of image numbers from a file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Partition:
    """A way to split, and which part is this site's. Train, test and validation images are split alike."""

    kind: PartitionKind = PartitionKind.ALL
    parts: Annotated[int, Between(1, 10_000)] = 1
    """Number of parts, usually of sites."""
    part: Annotated[int, Between(0)] = 0
    """This site's part, from 0."""
    seed: Annotated[int, Between(0)] = 0
    """The same at all sites of a simulation, or their parts overlap."""
    alpha: Annotated[float, Between(1e-6, 1e6)] = 0.5
    """Of `dirichlet`: small is uneven, large is even."""
    shares: tuple[Annotated[float, Between(0, above=True)], ...] = ()
    """Of `quantity`: one weight for each part; only their ratios count."""
    file: Path | None = None
    """Of `list`: a .csv file with the columns part, split and index, or a .json or .npz file, see
    `mple/data/index_lists.py`."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.part >= self.parts:
            raise ValueError(f"part = {self.part} of parts = {self.parts}; parts are counted from 0 to parts - 1")
        if self.kind is PartitionKind.ALL and self.parts > 1:
            raise ValueError(f'parts = {self.parts} with kind = "all"; choose iid, dirichlet, quantity or list')
        if (self.kind is PartitionKind.QUANTITY) != bool(self.shares):
            raise ValueError(f'kind = "{self.kind}", shares = {list(self.shares)}; shares go with kind = "quantity"')
        if self.shares and len(self.shares) != self.parts:
            raise ValueError(f"shares = {list(self.shares)}; needs one for each of {self.parts} parts")
        if (self.kind is PartitionKind.LIST) != (self.file is not None):
            raise ValueError(f'kind = "{self.kind}", file = {self.file}; a file goes with kind = "list"')


class IndexLists(NamedTuple):
    """Image numbers of one part."""

    train: Indices
    test: Indices
    val: Indices


def draw_owners(
    partition: Partition, labels: Sequence[NDArray[np.int64]], classes: int, patients: Sequence[Indices] | None = None
) -> tuple[Owners, ...]:
    """Owners of each split's images, for every kind but `list`.

    `labels` are those of each split, `patients` the numbers of those that its images show. Where images have several
    labels, what is said of classes here is so of `strata`.

    Guarantees: each image has one owner; each part owns one training image at least (where a draw leaves a part
    without, it gets the last image of the largest part); parts of `iid` differ by one image at most, but for that;
    `dirichlet` gives all splits the same class proportions, up to rounding; equal arguments give equal owners (NumPy's
    PCG64 under a fixed NumPy major version). Not promised: that a part owns a test or a validation image.
    With patients all images of one, of all splits, have one owner; sizes and proportions are as near to those above
    as whole patients allow.

    Raises DataError: there are fewer training images, or patients with some, than parts.
    """
    if len(labels[0]) < partition.parts:
        raise DataError(f"{len(labels[0])} training images can't give {partition.parts} parts one each; {_FEWER}")
    if labels[0].ndim == 2:
        labels, classes = strata(labels), classes + 1
    if patients is not None:
        return _patients_owners(partition, labels, classes, patients)
    dice = [_dice(partition.seed, stream) for stream in _SPLIT_STREAMS]
    if partition.kind is PartitionKind.DIRICHLET:
        shares_YP = _class_shares(partition, classes)
        owners = tuple(_owners_by_class(own, split, shares_YP) for own, split in zip(dice, labels, strict=False))
    else:
        shares_P = np.asarray(partition.shares or [1.0] * partition.parts)
        owners = tuple(_owners_by_share(own, len(split), shares_P) for own, split in zip(dice, labels, strict=False))
    _leave_no_part_empty(owners[0], partition.parts)
    return owners


def listed_owners(lists: Sequence[IndexLists], images: Sequence[int]) -> tuple[Owners, ...]:
    """Owners by explicit lists, one for each part; an image that no list names belongs to `NOBODY`.

    Raises DataError: a number is out of range or comes twice, in one list or in two.
    """
    by_split = zip(SPLITS, zip(*lists, strict=True), images, strict=True)
    return tuple(_owners_by_list(of_parts, count, split) for split, of_parts, count in by_split)


def hold_out(
    labels: NDArray[np.int64], share: float, seed: int, patients: Indices | None = None, *, validation: bool = False
) -> NDArray[np.bool_]:
    """Which images are for testing, or else for validation: this share of each class, rounded, but never a whole class.

    With `patients`, the numbers of those that the images show, whole patients are held out, drawn at random while that
    brings the classes nearer to their shares. The two uses draw apart. Where images have several labels, what is said
    of classes is so of `strata`.
    """
    if labels.ndim == 2:
        (labels,) = strata([labels])
    stream = _VAL_STREAM if validation else _HOLD_OUT_STREAM
    if patients is not None:
        return _hold_out_patients(labels, share, _dice(seed, stream), patients)
    held = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        members = _dice(seed, stream, int(label)).permutation(np.flatnonzero(labels == label))
        held[members[: min(round(share * len(members)), len(members) - 1)]] = True
    return held


def strata(labels: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    """What images with several labels (N, L) are dealt out by: of each split the number (N) of each image's rarest
    label, or L where it has none. Rare is a label that few images of all splits have.

    So each rare label is shared out as a class of its own would be, which a random split does not do; common labels
    follow by chance.
    """
    rank_L = np.argsort(np.argsort(sum((split == 1).sum(axis=0) for split in labels), kind="stable"))
    found = []
    for split in labels:
        rank_NL = np.where(split == 1, rank_L, split.shape[1])
        rarest_N = rank_NL.argmin(axis=1) if split.shape[0] else np.empty(0, np.int64)
        found.append(np.where((split == 1).any(axis=1), rarest_N, split.shape[1]).astype(np.int64))
    return found


def subsample(places: Indices, most: int | None, seed: int) -> Indices:
    """At most `most` of these numbers, chosen at random, in ascending order; all of them for None."""
    if most is None or len(places) <= most:
        return places
    return np.sort(_dice(seed, _SUBSAMPLE_STREAM).permutation(places)[:most])


def _dice(seed: int, *stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, *stream]))


def _owners_by_share(dice: np.random.Generator, images: int, shares_P: NDArray[np.float64]) -> Owners:
    owners = np.empty(images, np.int64)
    owners[dice.permutation(images)] = _in_shares(images, shares_P)
    return owners


def _owners_by_class(dice: np.random.Generator, labels: NDArray[np.int64], shares_YP: NDArray[np.float64]) -> Owners:
    owners = np.empty(len(labels), np.int64)
    for label, shares_P in enumerate(shares_YP):
        members = dice.permutation(np.flatnonzero(labels == label))
        owners[members] = _in_shares(len(members), shares_P)
    return owners


def _in_shares(images: int, shares_P: NDArray[np.float64]) -> Owners:
    """Owners 0, 0, ..., 1, 1, ... in these ratios; by rounding the borders, so that all images are given away."""
    shares_P = shares_P / shares_P.max()
    borders = np.round(np.cumsum(shares_P) / shares_P.sum() * images).astype(np.int64)
    borders[-1] = images
    return np.repeat(np.arange(len(shares_P)), np.diff(borders, prepend=0))


def _class_shares(partition: Partition, classes: int) -> NDArray[np.float64]:
    alphas = [partition.alpha] * partition.parts
    return _dice(partition.seed, _SHARES_STREAM).dirichlet(alphas, size=classes)


def _hold_out_patients(
    labels: NDArray[np.int64], share: float, dice: np.random.Generator, patients: Indices
) -> NDArray[np.bool_]:
    counts_UY = _counts(patients, labels, int(labels.max(initial=0)) + 1)
    total_Y = counts_UY.sum(axis=0)
    missing_Y = np.round(share * total_Y)
    left_Y, taken = total_Y.copy(), np.zeros(len(counts_UY), np.bool_)
    for patient in dice.permutation(len(counts_UY)):
        own_Y = counts_UY[patient]
        nearer = np.abs(missing_Y - own_Y).sum() < np.abs(missing_Y).sum()
        if nearer and (left_Y - own_Y)[own_Y > 0].all():
            taken[patient] = True
            missing_Y, left_Y = missing_Y - own_Y, left_Y - own_Y
    return np.asarray(taken[patients], np.bool_)


def _patients_owners(
    partition: Partition, labels: Sequence[NDArray[np.int64]], classes: int, patients: Sequence[Indices]
) -> tuple[Owners, ...]:
    """Each patient goes to the part that lacks most of what it has; those with training images come first."""
    if partition.kind is PartitionKind.DIRICHLET:
        shares_YP = _class_shares(partition, classes)
    else:  # classes do not count
        labels, classes = list(map(np.zeros_like, labels)), 1
        shares_YP = np.asarray([partition.shares or [1.0] * partition.parts])
        shares_YP = shares_YP / shares_YP.sum()
    people = 1 + max(int(split.max(initial=-1)) for split in patients)
    owners = np.full(people, NOBODY, np.int64)
    for split, stream in enumerate(_SPLIT_STREAMS[: len(labels)]):
        counts_UY = _counts(patients[split], labels[split], classes, people)
        missing_YP = shares_YP * counts_UY.sum(axis=0)[:, np.newaxis]
        for patient in np.flatnonzero(owners != NOBODY):
            missing_YP[:, owners[patient]] -= counts_UY[patient]
        sizes = counts_UY.sum(axis=1)
        shuffled = _dice(partition.seed, stream).permutation(np.flatnonzero((sizes > 0) & (owners == NOBODY)))
        for patient in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
            part = int(np.argmax(counts_UY[patient] @ missing_YP))
            owners[patient] = part
            missing_YP[:, part] -= counts_UY[patient]
        if not split:
            dealt = np.flatnonzero(owners != NOBODY)
            if len(dealt) < partition.parts:
                raise DataError(f"{len(dealt)} patients can't give {partition.parts} parts one each; {_FEWER}")
            of_dealt = owners[dealt]
            _leave_no_part_empty(of_dealt, partition.parts)
            owners[dealt] = of_dealt
    return tuple(owners[of_split] for of_split in patients)


def _counts(
    patients: Indices, labels: NDArray[np.int64], classes: int, people: int | None = None
) -> NDArray[np.float64]:
    """Images of each patient, by class."""
    people = int(patients.max(initial=-1)) + 1 if people is None else people
    flat = np.bincount(patients * classes + labels, minlength=people * classes)
    return flat.reshape(people, classes).astype(np.float64)


def _leave_no_part_empty(owners: Owners, parts: int) -> None:
    counts = np.bincount(owners, minlength=parts)
    for poor in np.flatnonzero(counts == 0):
        rich = int(np.argmax(counts))
        owners[np.flatnonzero(owners == rich)[-1]] = poor
        counts[rich] -= 1
        counts[poor] += 1


def _owners_by_list(lists: Sequence[Indices], images: int, split: str) -> Owners:
    owners = np.full(images, NOBODY, np.int64)
    for part, places in enumerate(lists):
        outside = places[(places < 0) | (places >= images)]
        if len(outside):
            raise DataError(f"{split} list of part {part}: number {int(outside[0])}; there are {images} images, from 0")
        repeated = np.flatnonzero(np.bincount(places, minlength=images) > 1)
        if len(repeated):
            raise DataError(f"{split} list of part {part}: image {int(repeated[0])} comes twice")
        taken = places[owners[places] != NOBODY]
        if len(taken):
            image = int(taken[0])
            raise DataError(f"{split} image {image} is in the lists of part {owners[image]} and of part {part}")
        owners[places] = part
    return owners
