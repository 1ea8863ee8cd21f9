"""What noise would do to a site's pictures, tried on some of them before anything is sent.

Keys and noise are drawn from fixed bytes: nothing of a run is touched, and the figures are the same every time.

Legend: N pictures, V values of one.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mple.data.normalise import normalise
from mple.morph import Ensemble, ImageShape, MorphGeometry, MorphKey, MorphScheme
from mple.morph.arithmetic import Floats
from mple.morph.morpher import Morpher
from mple.plan import MorphSettings, WireSettings
from mple.privacy.noise import PictureNoise
from mple.privacy.noise_distribution import NoiseDistribution
from mple.wire.basis_fitting import fit_basis
from mple.wire.codecs import codec_named
from mple.wire.coding import Coding
from mple.wire.names import value_codec
from mple.wire.transform_codec import TransformCodec

_FIXED = hashlib.sha256(b"mple forecast, no secret").digest()
MOST_VALUES = 4096
"""Of a picture whose covariance is taken apart; beyond that it takes minutes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """Some pictures with their noise, and what they weigh on the wire."""

    noisy_NCHW: NDArray[np.uint8]
    """What whoever undoes the morphing sees, cut to 0 to 255."""
    bits_per_value: float
    """As coded, with noise."""
    plain_bits_per_value: float
    """As coded, without."""


def forecast(
    pixels_NCHW: NDArray[np.uint8], distribution: NoiseDistribution, morph: MorphSettings, wire: WireSettings
) -> Forecast:
    """Add the noise of a distribution to pictures, morph and code them.

    Raises ValueError: the pictures have not the distribution's shape, or morphing does not fit it.
    """
    normalisation = distribution.normalisation
    x_NCHW = normalise(pixels_NCHW, normalisation)
    noisy_NCHW = PictureNoise(_FIXED, distribution).add(x_NCHW, pixels_NCHW)
    plain_bits, noisy_bits = (
        8 * _packed_bytes(form, distribution.spectrum.image, morph.scheme(), wire.codec) / pixels_NCHW.size
        for form in (x_NCHW, noisy_NCHW)
    )
    mean, std = (np.reshape(values, (-1, 1, 1)) for values in (normalisation.mean, normalisation.std))
    levels_NCHW = np.rint(255 * (noisy_NCHW * std + mean)).clip(0, 255).astype(np.uint8)
    return Forecast(noisy_NCHW=levels_NCHW, bits_per_value=noisy_bits, plain_bits_per_value=plain_bits)


def _packed_bytes(x_NCHW: Floats, image: ImageShape, scheme: MorphScheme, codec_name: str) -> int:
    """Of pictures in one message; a transform codec's basis and coding are fitted to these very pictures."""
    key, session = MorphKey(_FIXED), b"forecast"
    codec = codec_named(codec_name if scheme.ensemble is Ensemble.ORTHOGONAL else value_codec(codec_name))
    if not isinstance(codec, TransformCodec):
        return len(codec.pack(codec.encode(Morpher(scheme, image, key, session=session, key_epoch=1).morph(x_NCHW))))
    basis = fit_basis(x_NCHW, scheme, image, key, session=session, key_epoch=1, codec=codec)
    c_NKd = Morpher(scheme, image, key, session=session, key_epoch=1, basis=basis).morph(x_NCHW)
    geometry = MorphGeometry.of(scheme, image)
    coding = Coding.from_bytes(basis.coding, cores=geometry.cores(scheme), core_side=geometry.core_side)
    fitted = codec.fitted(coding)
    return len(fitted.pack(fitted.encode(c_NKd)))


def picture_eigenvalues(pixels_NCHW: NDArray[np.uint8]) -> NDArray[np.float64] | None:
    """Eigenvalues of the covariance of pictures in squared grey levels (V), None above `MOST_VALUES` values."""
    flat_NV = pixels_NCHW.reshape(len(pixels_NCHW), -1).astype(np.float64)
    if flat_NV.shape[1] > MOST_VALUES or len(flat_NV) < 2:
        return None
    flat_NV -= flat_NV.mean(axis=0)
    smaller = flat_NV.T @ flat_NV if len(flat_NV) > flat_NV.shape[1] else flat_NV @ flat_NV.T
    return np.linalg.eigvalsh(smaller / (len(flat_NV) - 1)).astype(np.float64).clip(min=0.0)
