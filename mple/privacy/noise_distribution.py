"""The distribution of a site's noise: which variance each band gets. Nothing in it tells one picture from another.

Legend: K bands.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass

import numpy as np

from mple.disk.json_records import canonical_json, record_from_json
from mple.plan import NormalisationSettings, PrivacySettings
from mple.plan.settings import NoiseShape
from mple.privacy.bands import band_counts
from mple.privacy.information import Bands, information_bits, isotropic_noise, least_power_noise
from mple.privacy.spectrum import Spectrum


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseDistribution:
    """What a site measured and what the plan asks for, from which the noise follows."""

    spectrum: Spectrum
    privacy: PrivacySettings
    normalisation: NormalisationSettings

    def variance_K(self) -> Bands:
        """Noise variances by band, in squared network inputs."""
        given = (self.spectrum.variance_K, band_counts(self.spectrum.image), self.privacy.budget_bits)
        return isotropic_noise(*given) if self.privacy.shape is NoiseShape.ISOTROPIC else least_power_noise(*given)

    def information_bits(self) -> float:
        """Most that a noisy picture tells of the picture: the budget, or a rounding error less."""
        return information_bits(self.spectrum.variance_K, self.variance_K(), band_counts(self.spectrum.image))

    def deviation(self) -> float:
        """Root mean square of the noise over all values, in network inputs."""
        counts_K = band_counts(self.spectrum.image)
        return float(np.sqrt((self.variance_K() * counts_K).sum() / counts_K.sum()))

    def deviation_px(self) -> float:
        """The same in grey levels of 255, for a mean normalisation of the channels."""
        return self.deviation() * 255 * float(np.sqrt(np.mean(np.square(self.normalisation.std))))

    def digest(self) -> bytes:
        """32 bytes that are the same exactly for equal distributions; whole numbers and settings, no computed ones."""
        return hashlib.sha256(b"mple/v1/noise distribution\0" + self._text(pictures=0, dependent=0)).digest()

    def to_json(self) -> bytes:
        """The distribution as text, for the site's state folder."""
        return self._text(pictures=self.spectrum.pictures, dependent=self.spectrum.dependent)

    @classmethod
    def from_json(cls, text: bytes) -> NoiseDistribution:
        """Read a distribution back. Raises ValueError: the text is not that of a distribution."""
        return record_from_json(cls, text, "the noise distribution")

    def _text(self, *, pictures: int, dependent: int) -> bytes:
        spectrum = dataclasses.replace(self.spectrum, pictures=pictures, dependent=dependent)
        return canonical_json(dataclasses.replace(self, spectrum=spectrum))
