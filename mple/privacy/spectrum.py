"""What a site measures of its pictures to calibrate noise: a few whole numbers, one for each band.

Of each band, the mean square about the mean picture, raised by five standard errors and then rounded up to a coarse
grid. Coarse, because the noise must not tell what it hides: noise that follows all of the covariance of a site gives
away more about single pictures than the budget (docs/science/privacy.md, step 6); these numbers are the same with and
without any picture, but for few, and `Spectrum.dependent` counts those.

Legend: N pictures, C channels, H W size, K bands.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mple.morph import ImageShape
from mple.plan import NormalisationSettings
from mple.privacy.bands import band_counts, band_numbers, to_cosines
from mple.privacy.information import Bands

MARGIN = 5.0
"""Standard errors by which a measured mean square is raised: too low by chance once in some million bands."""
STEPS_PER_OCTAVE = 4
"""Of the grid of variances; 2^(1/4) apart."""
_LEAST = -48
"""Of the grid: 2^-12, the deviation of a grey level in 255 with the usual normalisation."""
_MOST = 80
_PICTURES_AT_ONCE = 256
_VALUES_AT_ONCE = 2**21


@dataclass(frozen=True, kw_only=True, slots=True)
class Spectrum:
    """Variances of a site's pictures by band, on the grid."""

    image: ImageShape
    exponents: tuple[int, ...]
    """For each band, `STEPS_PER_OCTAVE` times the binary logarithm of its variance in squared network inputs."""
    pictures: int
    """How many were measured."""
    dependent: int
    """How many of them would have changed an exponent by their absence."""

    def __post_init__(self) -> None:
        if len(self.exponents) != len(band_counts(self.image)):
            raise ValueError(f"{len(self.exponents)} exponents for {len(band_counts(self.image))} bands")
        if not all(_LEAST <= exponent <= _MOST for exponent in self.exponents):
            raise ValueError(f"exponents {self.exponents}; allowed are {_LEAST} to {_MOST}")

    @property
    def variance_K(self) -> Bands:
        """Variances by band."""
        return np.exp2(np.array(self.exponents, np.float64) / STEPS_PER_OCTAVE)

    @property
    def most_bits(self) -> float:
        """Most that all exponents together can tell of all pictures of the site together."""
        return len(self.exponents) * float(np.log2(_MOST - _LEAST + 1))


def measure_spectrum(pixels_NCHW: NDArray[np.uint8], normalisation: NormalisationSettings) -> Spectrum:
    """Measure a site's training pictures.

    Raises ValueError: there are fewer than three pictures, or the normalisation stretches them beyond the grid.
    """
    count, *sizes = pixels_NCHW.shape
    image = ImageShape(channels=sizes[0], height=sizes[1], width=sizes[2])
    if count < 3:
        raise ValueError(f"{count} training pictures; noise is calibrated on three at least, and better on thousands")
    energy_NK = _energies(pixels_NCHW, normalisation, image)
    upper_K = _upper(energy_NK.sum(axis=0), (energy_NK**2).sum(axis=0), count) / band_counts(image)
    exponents_K = _on_grid(upper_K)
    if exponents_K.max() > _MOST:
        raise ValueError(f"normalised pictures have variance {upper_K.max():.3g}; raise normalisation.std")
    dependent = 0
    for low in range(0, count, _PICTURES_AT_ONCE):
        own_NK = energy_NK[low : low + _PICTURES_AT_ONCE]
        sums_NK = energy_NK.sum(axis=0) - own_NK * (count / (count - 1))
        squares_NK = (energy_NK**2).sum(axis=0) - own_NK**2
        without_NK = _on_grid(_upper(sums_NK, squares_NK, count - 1) / band_counts(image))
        dependent += int((without_NK != exponents_K).any(axis=1).sum())
    return Spectrum(image=image, exponents=tuple(exponents_K.tolist()), pictures=count, dependent=dependent)


def _energies(
    pixels_NCHW: NDArray[np.uint8], normalisation: NormalisationSettings, image: ImageShape
) -> NDArray[np.float64]:
    """Squared distance of each picture from the mean picture, by band (N, K)."""
    mean_CHW = np.mean(pixels_NCHW, axis=0, dtype=np.float64)
    scale_C11 = 1 / (255 * np.broadcast_to(np.array(normalisation.std), image.channels)[:, None, None])
    numbers, bands = band_numbers(image).reshape(-1), len(band_counts(image))
    order, starts = np.argsort(numbers, kind="stable"), np.searchsorted(np.sort(numbers), np.arange(bands))
    parts, size = [], max(1, _VALUES_AT_ONCE // image.elements)
    for low in range(0, len(pixels_NCHW), size):
        part_NCHW = (pixels_NCHW[low : low + size] - mean_CHW) * scale_C11
        squares_NV = to_cosines(part_NCHW).reshape(len(part_NCHW), -1)[:, order] ** 2
        parts.append(np.add.reduceat(squares_NV, starts, axis=1))
    return np.concatenate(parts)


def _upper(sums: NDArray[np.float64], squares: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Mean and `MARGIN` standard errors of it, from sums and sums of squares over `count` pictures."""
    spread = np.sqrt(np.maximum(squares / count - (sums / count) ** 2, 0.0) / (count - 1))
    return sums / (count - 1) + MARGIN * spread


def _on_grid(variance: NDArray[np.float64]) -> NDArray[np.int64]:
    # A hair of slack: sums in another order must not move a number to the next step.
    steps = np.ceil(STEPS_PER_OCTAVE * np.log2(np.maximum(variance, 2.0**-60)) - 1e-9)
    return np.maximum(steps, _LEAST).astype(np.int64)
