"""Images in: readers for real data sets, splitting over sites, normalisation.

`open_source` reads what a `DataSource`, the `[data]` section of a configuration, names: CIFAR-10, MedMNIST-like
archives, image folders or DICOM. Pixels stay 8 bits until `mple.data.normalise`, which makes tensors and so is imported
by its module. A file is data and never code: pickles are refused, and sizes are judged before anything is allocated for
them.
"""

from mple.data.cifar10 import Cifar10Source, default_data_folder
from mple.data.images import DataError, Dataset, LabelledImages
from mple.data.npz import NpzSource
from mple.data.partitions import Partition, PartitionKind
from mple.data.settings import DataSource
from mple.data.source import SOURCES, open_source

__all__ = [
    "SOURCES",
    "Cifar10Source",
    "DataError",
    "DataSource",
    "Dataset",
    "LabelledImages",
    "NpzSource",
    "Partition",
    "PartitionKind",
    "default_data_folder",
    "open_source",
]
