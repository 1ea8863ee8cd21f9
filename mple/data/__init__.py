"""Images in: readers for real data sets, splitting over sites, normalisation.

`open_source` reads what a `DataSource`, the `[data]` section of a configuration, names: CIFAR-10, MedMNIST-like
archives, image folders or DICOM. Pixels stay 8 bits until `Normalisation`. A file is data and never code: pickles are
refused, and sizes are judged before anything is allocated for them.
"""

import importlib
from typing import TYPE_CHECKING

from mple.data.cifar10 import default_data_folder
from mple.data.fetch import fetch_cifar10
from mple.data.images import DataError, Dataset, LabelledImages
from mple.data.partitions import Partition, PartitionKind
from mple.data.settings import Channels, DataSource, SourceKind, Validation
from mple.data.source import open_source

if TYPE_CHECKING:
    from mple.data.normalise import Normalisation

__all__ = [
    "Channels",
    "DataError",
    "DataSource",
    "Dataset",
    "LabelledImages",
    "Normalisation",
    "Partition",
    "PartitionKind",
    "SourceKind",
    "Validation",
    "default_data_folder",
    "fetch_cifar10",
    "open_source",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """`Normalisation` makes tensors; who only names or reads a set starts without torch."""
        if name != "Normalisation":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return importlib.import_module(f"{__name__}.normalise").Normalisation
