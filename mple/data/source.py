"""A site's images, as its configuration names them: the table of all kinds of sources, and how a part is taken."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from mple.data.cifar10 import Cifar10Source
from mple.data.dicom import DicomSource
from mple.data.dicomweb.source import DicomWebSource
from mple.data.folder import FolderSource
from mple.data.images import Catalogue, DataError, Dataset, LabelledImages, PatientSplit, Split, task_of
from mple.data.index_lists import read_index_lists
from mple.data.levels import range_notes
from mple.data.names import shown
from mple.data.npz import NpzSource
from mple.data.partitions import (
    NOBODY,
    SPLITS,
    Indices,
    PartitionKind,
    draw_owners,
    hold_out,
    listed_owners,
    subsample,
)
from mple.data.pixel_file import PixelFile
from mple.data.settings import DataSource
from mple.machine import require_memory
from mple.model.settings import TaskKind
from mple.morph import ImageShape

_HELD_BYTES = 1024**2
"""Pixels of a split that are held in memory even where a file could keep them."""
_PARTS = 8
"""In which a larger one is read."""
SOURCES: Mapping[str, type[DataSource]] = MappingProxyType(
    {
        "cifar10": Cifar10Source,
        "npz": NpzSource,
        "folder": FolderSource,
        "dicom": DicomSource,
        "dicomweb": DicomWebSource,
    }
)
"""By `kind`. A new kind is a module with its dataclass, and a row here."""


def source_type(raw: Mapping[str, object]) -> type[DataSource]:
    """The dataclass that a `[data]` section is read as.

    Raises ValueError: there is no such kind, or a key is one that only other kinds have.
    """
    kind = raw.get("kind")
    if not isinstance(kind, str) or kind not in SOURCES:
        raise ValueError(f"kind {'is missing' if kind is None else f'= {kind!r}'}; choose one of {', '.join(SOURCES)}")
    for key in raw:
        having = [name for name, one in SOURCES.items() if key in {field.name for field in fields(one)}]
        if having and kind not in having:
            kinds = " and ".join(filter(None, (", ".join(having[:-1]), having[-1])))
            raise ValueError(f'{key} is for data of kind {kinds}, not for kind = "{kind}"')
    return SOURCES[kind]


@dataclass(frozen=True, kw_only=True, slots=True)
class SitePart:
    """What a site takes of its data, before any pixel is read."""

    catalogue: Catalogue
    train: Indices
    test: Indices
    val: Indices
    """Numbers of the images in the catalogue's splits, ascending. Where validation images are taken from the training
    images, the catalogue's `val` is its `train`; no image is in both lists then."""
    patients: PatientSplit
    notes: tuple[str, ...]
    """What the site should know of it, see `Dataset`."""


def choose_part(source: DataSource, *, held: bool = True, verified: bool = True) -> SitePart:
    """Look at a site's data by what their headers say, and choose its part. `held` says whether all its pixels are to
    be held in memory; not `verified` data are chosen from for a forecast, and not to be read.

    Raises DataError: something is missing, damaged or not what the configuration says, no training image is left, or
    a class that `classes` does not name has images of another split and no training image; MemoryShortError: this
    machine can't hold the part's pixels.
    """
    try:
        catalogue = source.catalogue() if verified else source.outline()
    except OSError as fault:
        raise DataError(f"{shown(fault.filename or source.kind)} can't be read: {fault.strerror}") from fault
    notes = [*_class_notes(source, catalogue), *catalogue.notes]
    (train, test, val), split_patients = _places(source, catalogue)
    if not len(catalogue.val.labels) and source.validation_share:
        catalogue = replace(catalogue, val=catalogue.train)
        train, val = _taken_for_validation(source, catalogue.train, train)
    if not len(train):
        raise DataError(f"{catalogue.name}: no training image is left for this site; check path and partition")
    images = len(train) + len(test) + len(val)
    require_memory(
        images * catalogue.shape.elements // (1 if held else _PARTS),
        f"{images} pictures of {catalogue.name}",
        "take fewer (most_train, most_test, most_val) or smaller ones (side_px)",
    )
    if len(catalogue.test.labels) and not len(test):
        notes.append("no test picture is left for this site, so that its part of the network goes unmeasured")
    if split_patients:
        notes.append(f"patients with pictures in the lists of several parts: {split_patients}; give each to one part")
    if source.validation_share and not len(val):
        notes.append(
            f"validation_share = {source.validation_share:g} of {len(train)} training pictures leaves none for "
            "validation; raise it"
        )
    status, shared = _patient_split(catalogue, train, {"test": test, "validation": val})
    return SitePart(catalogue=catalogue, train=train, test=test, val=val, patients=status, notes=(*notes, *shared))


def open_source(source: DataSource, keep: Path | None = None) -> Dataset:
    """Read a site's part of its data. With `keep`, a folder, the pixels of a large split are kept in a file without a
    name there, and not in memory.

    Guarantees: equal settings and files give equal images in equal order; only the part's pixels are held in memory;
    nothing that lies in a file is executed; where the set says whose pictures are whose, splits that are drawn here and
    a deal over sites keep a patient's together.

    Raises DataError: as `choose_part`, or a picture can't be read; MemoryShortError: as `choose_part`.
    """
    return read_part(source, choose_part(source, held=keep is None), keep)


def read_part(source: DataSource, part: SitePart, keep: Path | None = None) -> Dataset:
    """Read the pixels of a part that was chosen from this source; `keep` as of `open_source`.

    Raises DataError: a picture can't be read; OSError: the disk of `keep` refuses.
    """
    catalogue = part.catalogue
    train, test, val = (
        LabelledImages(_pixels(split, places, catalogue.shape, keep), split.labels[places])
        for split, places in ((catalogue.train, part.train), (catalogue.test, part.test), (catalogue.val, part.val))
    )
    return Dataset(
        name=catalogue.name,
        classes=catalogue.classes,
        train=train,
        test=test,
        val=val,
        patients=part.patients,
        notes=(*part.notes, *range_notes(train, test, val, advice=source.levels_advice)),
    )


def held_pixel_bytes(part: SitePart) -> int:
    """Of a part, what `read_part` holds in memory where a file may keep large splits."""
    splits = (len(places) * part.catalogue.shape.elements for places in (part.train, part.test, part.val))
    return sum(whole for whole in splits if whole <= _HELD_BYTES)


def _pixels(split: Split, places: Indices, image: ImageShape, keep: Path | None) -> NDArray[np.uint8] | PixelFile:
    """An archive is read from its beginning for each part of a file, so that these are few."""
    whole = len(places) * image.elements
    if keep is None or whole <= _HELD_BYTES:
        return split.read(places)
    size = -(-len(places) // max(1, min(_PARTS, whole // _HELD_BYTES * 2)))
    return PixelFile(keep, image, (split.read(places[low : low + size]) for low in range(0, len(places), size)))


def _class_notes(source: DataSource, catalogue: Catalogue) -> list[str]:
    """What is odd about the classes of the whole set."""
    if task_of(catalogue.train.labels) is TaskKind.LABELS:
        return _label_notes(catalogue)
    train, test, val = (
        np.bincount(getattr(catalogue, split).labels, minlength=len(catalogue.classes)) for split in SPLITS
    )
    for split, counts in (("test", test), ("validation", val)):
        untrained = np.flatnonzero((train == 0) & (counts > 0))
        if len(untrained) and not source.classes:
            name = catalogue.classes[untrained[0]]
            raise DataError(
                f"{catalogue.name}: class {name!r} has {split} images and no training image; name all `classes`"
            )
    notes = []
    if not test.any():
        notes.append("there is no test picture, so that this site's part of the network goes unmeasured")
    found = (
        ("no training picture", np.flatnonzero((train == 0) & (test + val > 0))),
        ("no test picture", np.flatnonzero((train + val > 0) & (test == 0)) if test.any() else ()),
        ("no validation picture", np.flatnonzero((train + test > 0) & (val == 0)) if val.any() else ()),
        ("no picture at all", np.flatnonzero((train == 0) & (test == 0) & (val == 0))),
    )
    for what, numbers in found:
        if len(numbers):
            notes.append(f"{what} of class {_named(catalogue, np.asarray(numbers))}")
    return notes


def _label_notes(catalogue: Catalogue) -> list[str]:
    """What is odd about the labels of the whole set."""
    notes = []
    if not len(catalogue.test.labels):
        notes.append("there is no test picture, so that this site's part of the network goes unmeasured")
    for split, labels in (("training", catalogue.train.labels), ("test", catalogue.test.labels)):
        if not len(labels):
            continue
        having, known = (labels == 1).sum(axis=0), (labels >= 0).sum(axis=0)
        found = (
            (f"unknown of every {split} picture", known == 0),
            (f"no {split} picture has", (known > 0) & (having == 0)),
            (f"every {split} picture that is known has", (known > 0) & (having == known)),
        )
        for what, which in found:
            if which.any():
                notes.append(f"{what}: label {_named(catalogue, np.flatnonzero(which))}")
        if silent := int((labels < 0).all(axis=1).sum()):
            notes.append(f"{split} pictures without any known label: {silent} of {len(labels)}; they teach no label")
    if (catalogue.train.labels == 1).sum(axis=1).tolist() == [1] * len(catalogue.train.labels):
        notes.append(
            "each training picture has exactly one label: if one excludes the others, give the class of each picture "
            'instead, for task.kind = "classes"'
        )
    return notes


def _named(catalogue: Catalogue, numbers: Indices) -> str:
    names = ", ".join(repr(catalogue.classes[number]) for number in numbers[:3])
    return names + (f" and {len(numbers) - 3} more" if len(numbers) > 3 else "")


def _places(source: DataSource, catalogue: Catalogue) -> tuple[list[Indices], int]:
    """The site's images of each split, and how many patients the lists of several parts share."""
    partition, splits = source.partition, [getattr(catalogue, split) for split in SPLITS]
    labels, patients = [split.labels for split in splits], _patients(splits)
    shared = 0
    if partition.kind is PartitionKind.LIST and partition.file is not None:
        lists = read_index_lists(partition.file, partition.parts)
        try:
            owners = listed_owners(lists, list(map(len, labels)))
        except DataError as fault:
            raise DataError(f"{partition.file}: {fault}") from None
        if patients is not None:
            pairs = np.stack([np.concatenate(patients), np.concatenate(owners)])
            _, parts_of = np.unique(np.unique(pairs[:, pairs[1] != NOBODY], axis=1)[0], return_counts=True)
            shared = int((parts_of > 1).sum())
    else:
        owners = draw_owners(partition, labels, len(catalogue.classes), patients)
    most = (source.most_train, source.most_test, source.most_val)
    chosen = [
        subsample(np.flatnonzero(split == partition.part), limit, source.seed)
        for split, limit in zip(owners, most, strict=True)
    ]
    return chosen, shared


def _patients(splits: Sequence[Split]) -> list[Indices] | None:
    """Of each split's images; None where the set does not say whose they are."""
    known = [split.patients for split in splits if split.patients is not None]
    return known if len(known) == len(splits) else None


def _taken_for_validation(source: DataSource, split: Split, train: Indices) -> tuple[Indices, Indices]:
    """A site's training images without those that are taken for validation, and these."""
    patients = None if split.patients is None else split.patients[train]
    held = hold_out(split.labels[train], source.validation_share, source.seed, patients, validation=True)
    return train[~held], subsample(train[held], source.most_val, source.seed)


def _patient_split(
    catalogue: Catalogue, train: Indices, others: Mapping[str, Indices]
) -> tuple[PatientSplit, list[str]]:
    """How patients lie over training and other pictures, and what a site should know of it."""
    patients = _patients([getattr(catalogue, split) for split in SPLITS])
    if patients is None:
        return PatientSplit.UNKNOWN, []
    trained, notes = patients[0][train], []
    for (name, places), of_split in zip(others.items(), patients[1:], strict=True):
        if both := len(np.intersect1d(trained, of_split[places])):
            notes.append(
                f"patients in training and in {name} pictures: {both}; the {name} measures how well they are "
                "remembered: divide the set by patients"
            )
    return (PatientSplit.SHARED if notes else PatientSplit.APART), notes
