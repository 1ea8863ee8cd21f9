"""Patients: pictures of one person are alike, so that a split through a person measures memory, not learning.

Who a picture is of stays in a reader: numbers go on, and out of a site only which `PatientSplit` its set is.
"""

import unicodedata
from collections.abc import Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from mple.data.images import DataError
from mple.data.names import says_nothing


class Patients(StrEnum):
    """How a set says whose pictures belong together. They are kept together, over splits and over sites."""

    AUTO = "auto"
    """By what the data say: `PatientID` of DICOM files or, before it, the column `patient` of their table; the arrays
    of patients of an archive. Image folders say nothing."""
    FOLDER = "folder"
    """Of image folders: a folder for each patient within a class; one name is one patient, in whichever class."""
    IGNORED = "ignored"
    """Nothing is taken for a patient, as where `PatientID` was made one and the same for all."""


def number_patients(names: Sequence[str], where: str) -> NDArray[np.int64] | None:
    """Numbers from 0 for patients' names; None where no picture says whose it is, as an empty name and "n/a" do not.

    Names that differ in capitals, blanks or Unicode form only are one patient.

    Raises DataError: some pictures say it and others don't, or all are of one patient.
    """
    alike = [" ".join(unicodedata.normalize("NFKC", name).casefold().split()) for name in names]
    silent = sum(map(says_nothing, alike))
    if silent == len(alike):
        return None
    if silent:
        raise DataError(
            f"{where}: {silent} of {len(alike)} pictures do not say which patient they are of; complete them (a column "
            'patient in the table does), or set patients = "ignored"'
        )
    _, numbers = np.unique(np.asarray(alike), return_inverse=True)
    if len(alike) > 1 and not numbers.any():
        raise DataError(
            f"{where}: all {len(alike)} pictures name one patient; give each patient a name of its own, or set "
            'patients = "ignored" where the names were taken away'
        )
    return numbers.astype(np.int64).reshape(-1)
