"""What a layer takes as it travels and what it adds to the features, beside what the codes of the pictures add.

Legend: N pictures, K blocks, d coefficients of a block, F filters.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.coded_pictures import KEY_EPOCH, SESSION, site_coding
from mple.model.settings import ModelSettings
from mple.model.stem import Stem, planned_stem
from mple.morph import PRESETS, ImageShape
from mple.morph.augmented import AugmentedLayer, build_augmented_layer
from mple.morph.morpher import Morpher
from mple.wire.codecs import codec_named
from mple.wire.layer_file import read_layer, write_layer
from mple.wire.transform_codec import TransformCodec

_LOOKED_AT = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerBytes:
    """One layer in one form."""

    preset: str
    stem: str
    codec: str
    layer: str
    """`int8` of morphed values is what travels without a transform codec."""
    coefficients: int | None
    """d, None of a layer for morphed values."""
    file_bytes: int
    feature_error: float
    """Root mean square that the layer's rounding adds to the features of other pictures than the basis was fitted to,
    over the features'."""
    codec_error: float
    """Likewise, of the codes."""


def layer_bytes(preset: str, stem: str, codec: str, x_NCHW: NDArray[np.float32]) -> list[LayerBytes]:
    """The forms of a layer that a site with these pictures, as network inputs, could send."""
    fit_NCHW, other_NCHW = x_NCHW[:-_LOOKED_AT], x_NCHW[-_LOOKED_AT:]
    site = site_coding(codec, fit_NCHW, preset=preset)
    chosen = codec_named(codec)
    assert isinstance(chosen, TransformCodec), "layers for coefficients are compared"
    channels, height, width = map(int, x_NCHW.shape[1:])
    image = ImageShape(channels=channels, height=height, width=width)
    model = ModelSettings(stem=stem)
    first = planned_stem(model, filters=model.filters, channels=channels)

    def built(*, with_basis: bool) -> AugmentedLayer:
        return build_augmented_layer(
            PRESETS[preset],
            image,
            first.kernels_FCpp,
            site.key,
            np.arange(first.filters),
            session=SESSION,
            key_epoch=KEY_EPOCH,
            basis=site.basis if with_basis else None,
        )

    bare = Morpher(PRESETS[preset], image, site.key, session=SESSION, key_epoch=KEY_EPOCH)
    layer, exact_NKd = built(with_basis=True), site.morpher.morph(other_NCHW)
    c_NKd = site.codec.decode(site.codec.encode(exact_NKd), exact_NKd.shape[1])
    by_codec = _error(layer, c_NKd, layer, exact_NKd)
    found = []
    for form, whole, values in (
        ("int8", built(with_basis=False), bare.morph(other_NCHW)),
        ("int8", layer, c_NKd),
        ("coded", layer, c_NKd),
    ):
        received, size = _sent(whole, form, chosen.step, first)
        found.append(
            LayerBytes(
                preset=preset,
                stem=stem,
                codec=codec,
                layer=form,
                coefficients=whole.coefficients,
                file_bytes=size,
                feature_error=_error(received, values, whole, values),
                codec_error=by_codec,
            )
        )
    return found


def line(one: LayerBytes) -> str:
    """For the screen."""
    rows = "morphed values" if one.coefficients is None else f"{one.coefficients} coefficients"
    return (
        f"{one.preset:10} {one.stem:9} {one.codec:5} {one.layer:6} of {rows:16} {one.file_bytes:11,} bytes, features "
        f"off by {one.feature_error:.1e} (codes: {one.codec_error:.1e})"
    )


def _sent(layer: AugmentedLayer, form: str, step: float, stem: Stem) -> tuple[AugmentedLayer, int]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layer"
        write_layer(layer, path, form, step)
        received = read_layer(
            path,
            scheme=layer.scheme,
            image=layer.image_shape,
            filters=stem.filters,
            kernel=stem.kernel,
            numbers=form,
            coefficients=layer.coefficients is not None,
        )
        return received, path.stat().st_size


def _error(
    received: AugmentedLayer, values: NDArray[np.float32], layer: AugmentedLayer, exact: NDArray[np.float32]
) -> float:
    """In parts, for features of many pictures are large."""
    off, whole = 0.0, 0.0
    for low in range(0, len(values), 20):
        features = layer.apply(exact[low : low + 20])
        off += float(np.square(received.apply(values[low : low + 20]) - features).sum(dtype=np.float64))
        whole += float(np.square(features).sum(dtype=np.float64))
    return float((off / whole) ** 0.5)
