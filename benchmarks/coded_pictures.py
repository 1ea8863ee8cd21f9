"""Pictures as a site's codes: what they weigh as they travel, and how exact they are once decoded.

Legend: N pictures, C channels, H W size, K blocks, Q core side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mple.data.normalise import normalise
from mple.data.settings import NormalisationSettings
from mple.morph import PRESETS, ImageShape, MorphGeometry, MorphKey
from mple.morph.basis import Basis
from mple.morph.morpher import Morpher
from mple.plan import WireSettings
from mple.wire.basis_file import basis_bytes
from mple.wire.basis_fitting import fit_basis
from mple.wire.batch import samples_per_message
from mple.wire.codec import Codec
from mple.wire.codecs import codec_named
from mple.wire.coding import Coding
from mple.wire.transform_codec import TransformCodec

SESSION = b"benchmark"
KEY_EPOCH = 1
_AT_ONCE = 256
FITTED_TO = 2000
"""Most training pictures that a basis is fitted to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteCoding:
    """A site's key and codec for pictures of one shape."""

    key: MorphKey
    basis: Basis | None
    morpher: Morpher
    codec: Codec
    normalisation: NormalisationSettings

    @property
    def basis_bytes(self) -> int:
        """What a compute node is sent once a key beside the codes, in escrow custody."""
        return 0 if self.basis is None else len(basis_bytes(self.basis))


def site_coding(codec: str, x_NCHW: NDArray[np.float32], *, preset: str = "compact") -> SiteCoding:
    """A new key, and the basis that a site would fit to its training pictures, which are network inputs here."""
    key, scheme, chosen = MorphKey.generate(), PRESETS[preset], codec_named(codec)
    channels, height, width = map(int, x_NCHW.shape[1:])
    image = ImageShape(channels=channels, height=height, width=width)
    basis: Basis | None = None
    if isinstance(chosen, TransformCodec):
        some, geometry = x_NCHW[:FITTED_TO], MorphGeometry.of(scheme, image)
        basis = fit_basis(some, scheme, image, key, session=SESSION, key_epoch=KEY_EPOCH, codec=chosen)
        chosen = chosen.fitted(Coding.from_bytes(basis.coding, cores=basis.cores, core_side=geometry.core_side))
    return SiteCoding(
        key=key,
        basis=basis,
        morpher=Morpher(scheme, image, key, session=SESSION, key_epoch=KEY_EPOCH, basis=basis),
        codec=chosen,
        normalisation=NormalisationSettings(),
    )


def measured(coding: SiteCoding, pixels_NCHW: NDArray[np.uint8]) -> tuple[float, float]:
    """Bits a pixel value of packed messages, and PSNR in dB of the pictures that come out of them.

    PSNR is of pixels as a picture file would have them: cut to 0 to 255 and rounded, from the mean of all squares.
    """
    x_NCHW = normalise(pixels_NCHW, coding.normalisation)
    squares = 0.0
    for low in range(0, len(x_NCHW), _AT_ONCE):
        some = decoded(coding, x_NCHW[low : low + _AT_ONCE])
        squares += float(np.square(_pixels(some, coding.normalisation) - pixels_NCHW[low : low + _AT_ONCE]).sum())
    error = squares / pixels_NCHW.size
    bits = 8 * packed_bytes(coding, x_NCHW) / pixels_NCHW.size
    return bits, float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def packed_bytes(coding: SiteCoding, x_NCHW: NDArray[np.float32]) -> int:
    """What network inputs take as they travel, as many in a message as the product puts there."""
    each = samples_per_message(WireSettings().message_bytes, coding.codec.planned_bytes(coding.morpher.geometry))
    parts = (coding.morpher.morph(x_NCHW[low : low + each]) for low in range(0, len(x_NCHW), each))
    return sum(len(coding.codec.pack(coding.codec.encode(t_BKQ))) for t_BKQ in parts)


def decoded(coding: SiteCoding, x_NCHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Network inputs as they come out of their codes."""
    out_NCHW = np.empty_like(x_NCHW)
    for low in range(0, len(x_NCHW), _AT_ONCE):
        t_BKQ = coding.morpher.morph(x_NCHW[low : low + _AT_ONCE])
        received = coding.codec.decode(coding.codec.encode(t_BKQ), t_BKQ.shape[1])
        out_NCHW[low : low + _AT_ONCE] = coding.morpher.unmorph(received)
    return out_NCHW


def _pixels(x_BCHW: NDArray[np.float32], by: NormalisationSettings) -> NDArray[np.float64]:
    mean, std = (np.array(some, np.float64)[:, None, None] for some in (by.mean, by.std))
    return np.asarray(np.rint((x_BCHW * std + mean) * 255).clip(0, 255))
