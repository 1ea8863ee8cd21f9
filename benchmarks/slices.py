"""Patients of many slices that are nearly equal, each patient's class by coin: nothing can be learned from them.

So whatever a test measures beyond chance is memory of the same patients.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PATIENTS, SLICES = 24, 20


@dataclass(frozen=True, slots=True)
class Slices:
    """Pixels (480, side, side), labels and patients of as many, mixed as an archive is that was sorted by nothing."""

    pixels_NHW: NDArray[np.uint8]
    labels: NDArray[np.int64]
    patients: NDArray[np.int64]


def draw_slices(seed: int, side_px: int) -> Slices:
    """A set of 24 patients with 20 slices each; slices of one differ by four grey levels at most."""
    dice = np.random.default_rng(seed)
    patients = dice.permutation(np.repeat(np.arange(PATIENTS), SLICES))
    faces = dice.integers(2, 254, (PATIENTS, side_px, side_px))
    pixels = faces[patients] + dice.integers(-2, 3, (len(patients), side_px, side_px))
    coins = dice.permutation(PATIENTS) % 2  # as many of each
    return Slices(pixels.astype(np.uint8), coins[patients], patients)


def save_npz(slices: Slices, path: Path) -> None:
    """Undivided: x, y, patient."""
    np.savez(path, x=slices.pixels_NHW, y=slices.labels, patient=slices.patients)
