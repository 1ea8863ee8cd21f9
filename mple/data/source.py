"""A site's images, as its configuration names them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mple.data.cifar10 import cifar10_catalogue
from mple.data.dicom import dicom_catalogue
from mple.data.folder import folder_catalogue
from mple.data.images import Catalogue, DataError, Dataset, LabelledImages, Split
from mple.data.index_lists import read_index_lists
from mple.data.npz import npz_catalogue
from mple.data.partitions import Indices, PartitionKind, draw_owners, listed_owners, subsample
from mple.data.settings import DataSource, SourceKind


def open_source(source: DataSource) -> Dataset:
    """Read a site's part of its data.

    Guarantees: equal settings and files give equal images in equal order; only the part's pixels are held in memory;
    nothing that lies in a file is executed.

    Raises:
        DataError: Something is missing, damaged or not what the configuration says, or no training image is left.
    """
    catalogue = _catalogue(source)
    train, test = _places(source, catalogue)
    if not len(train):
        raise DataError(f"{catalogue.name}: no training image is left for this site; check path and partition")
    return Dataset(
        name=catalogue.name,
        classes=catalogue.classes,
        train=_images(catalogue.train, train),
        test=_images(catalogue.test, test),
    )


def _catalogue(source: DataSource) -> Catalogue:
    if source.kind is SourceKind.CIFAR10:
        return cifar10_catalogue(source)
    read = {SourceKind.NPZ: npz_catalogue, SourceKind.FOLDER: folder_catalogue, SourceKind.DICOM: dicom_catalogue}
    return read[source.kind](source, source.path or Path())


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
