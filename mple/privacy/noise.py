"""Drawing the noise of a picture from a secret of its site: always the same for the same picture and distribution.

What names a draw is the picture itself, by its SHA-256, and the distribution. So a picture that is sent again, under
another key, in another run or from the other split, carries the noise that it had: two releases don't average it out
and together tell what one does. Two pictures never share a draw, not even where one took the other's number: their
difference would be theirs without noise. Nor do two distributions: x + s·g and x + 2s·g would give x away.

Legend: B pictures, C channels, H W size.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from mple.morph.keys import SEED_BYTES, gaussians
from mple.privacy.bands import band_numbers, from_cosines
from mple.privacy.noise_distribution import NoiseDistribution

_STEP = 2.0**-12
"""Noisy values are whole multiples: what float64 rounded in their last bits must not tell x and n apart."""


class PictureNoise:
    """A site's noise. `repr` does not show the secret.

    Guarantees: the noise of a picture depends on secret, distribution and picture alone, not on what it is drawn with;
    given the secret's uniformity and ChaCha20, draws for different pictures or distributions are independent; values
    are Gaussian up to 8.6 deviations. Not promised: the same bits on machines whose cosine differs in its last bit.
    """

    def __init__(self, secret: bytes, distribution: NoiseDistribution) -> None:
        """Prepare to draw. Raises ValueError: the secret has not 32 bytes."""
        if len(secret) != SEED_BYTES:
            raise ValueError(f"a noise secret has {SEED_BYTES} bytes, this one {len(secret)}")
        self._secret, self.distribution = bytes(secret), distribution
        self._label = b"noise\0" + distribution.digest()
        self._deviation_CHW = np.sqrt(distribution.variance_K())[band_numbers(distribution.spectrum.image)]

    def add(self, x_BCHW: NDArray[np.float32], pixels_BCHW: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Normalised pictures with their noise, float32; the pixels of the same pictures name the draws.

        Raises ValueError: the pictures have not the distribution's shape.
        """
        image = self.distribution.spectrum.image
        if pixels_BCHW.shape[1:] != (image.channels, image.height, image.width) or x_BCHW.shape != pixels_BCHW.shape:
            raise ValueError(f"pictures of shape {tuple(x_BCHW.shape[1:])}; this noise is for {image}")
        noise_BCHW = np.empty(x_BCHW.shape)
        for place, pixels_CHW in enumerate(pixels_BCHW):
            noise_BCHW[place] = self.draw(pixels_CHW)
        return (np.rint((x_BCHW + noise_BCHW) / _STEP) * _STEP).astype(np.float32)

    def draw(self, pixels_CHW: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The noise of one picture, in network inputs."""
        label = self._label + hashlib.sha256(np.ascontiguousarray(pixels_CHW).tobytes()).digest()
        z_CHW = gaussians(self._secret, label, pixels_CHW.size).reshape(pixels_CHW.shape) * self._deviation_CHW
        noise_CHW: NDArray[np.float64] = from_cosines(z_CHW[None])[0]
        return noise_CHW

    def __repr__(self) -> str:
        return f"PictureNoise({self.distribution.digest().hex()[:8]})"
