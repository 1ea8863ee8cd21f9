"""The hardened mode: Gaussian noise on pictures before they are morphed, so that what leaves a site is bounded in bits.

A site measures its pictures (`measure_spectrum`), which with the plan's `PrivacySettings` makes a `NoiseDistribution`;
from it and a secret of the site `PictureNoise` draws. `most_success` says what the bound means for an adversary,
`protection` what a run's settings mean for its pictures. docs/science/privacy.md proves it step by step.

Pure: nothing here opens a file, looks at a clock or draws from the operating system.
"""

from mple.privacy.information import information_bits, isotropic_noise, least_power_noise
from mple.privacy.noise import PictureNoise
from mple.privacy.noise_distribution import NoiseDistribution
from mple.privacy.protection import pairs_that_open, protection
from mple.privacy.spectrum import Spectrum, measure_spectrum
from mple.privacy.success import gaussian_least_error, most_success

__all__ = [
    "NoiseDistribution",
    "PictureNoise",
    "Spectrum",
    "gaussian_least_error",
    "information_bits",
    "isotropic_noise",
    "least_power_noise",
    "measure_spectrum",
    "most_success",
    "pairs_that_open",
    "protection",
]
