"""A site's images, as its configuration names them: the table of all kinds of sources, and how a part is taken."""

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType

import numpy as np

from mple.data.cifar10 import Cifar10Source
from mple.data.dicom import DicomSource
from mple.data.folder import FolderSource
from mple.data.images import Catalogue, DataError, Dataset, LabelledImages, Split
from mple.data.index_lists import read_index_lists
from mple.data.npz import NpzSource
from mple.data.partitions import Indices, PartitionKind, draw_owners, listed_owners, subsample
from mple.data.settings import DataSource

SOURCES: Mapping[str, type[DataSource]] = MappingProxyType(
    {"cifar10": Cifar10Source, "npz": NpzSource, "folder": FolderSource, "dicom": DicomSource}
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
            raise ValueError(f'{key} is for data of kind {" and ".join(having)}, not for kind = "{kind}"')
    return SOURCES[kind]


def open_source(source: DataSource) -> Dataset:
    """Read a site's part of its data.

    Guarantees: equal settings and files give equal images in equal order; only the part's pixels are held in memory;
    nothing that lies in a file is executed.

    Raises DataError: something is missing, damaged or not what the configuration says, or no training image is left.
    """
    catalogue = source.catalogue()
    train, test = _places(source, catalogue)
    if not len(train):
        raise DataError(f"{catalogue.name}: no training image is left for this site; check path and partition")
    return Dataset(
        name=catalogue.name,
        classes=catalogue.classes,
        train=_images(catalogue.train, train),
        test=_images(catalogue.test, test),
    )


def _places(source: DataSource, catalogue: Catalogue) -> tuple[Indices, Indices]:
    partition, train, test = source.partition, catalogue.train.labels, catalogue.test.labels
    if partition.kind is PartitionKind.LIST and partition.file is not None:
        lists = read_index_lists(partition.file, partition.parts)
        try:
            owners = listed_owners(lists, len(train), len(test))
        except DataError as fault:
            raise DataError(f"{partition.file}: {fault}") from None
    else:
        owners = draw_owners(partition, train, test, len(catalogue.classes))
    train_places, test_places = (np.flatnonzero(split == partition.part) for split in owners)
    return (
        subsample(train_places, source.most_train, source.seed),
        subsample(test_places, source.most_test, source.seed),
    )


def _images(split: Split, places: Indices) -> LabelledImages:
    return LabelledImages(split.read(places), split.labels[places])
