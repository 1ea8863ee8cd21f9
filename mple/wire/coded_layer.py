"""Layers for coefficients, rounded by what they will meet and entropy coded: `wire.layer = "coded"`.

A coefficient of deviation σ turns an error e of its row's weights into one of σ·e in the features. So rows are rounded
in steps inverse to their coefficients' deviations: every row then adds the same error, and the row of a coefficient
that is nearly always 0 takes hardly a bit. In channel f and row j the step is

    q_f / σ_j,    q_f = s·D·a_f / sqrt(d),

a_f the root mean square over outputs of the norm of a channel's weights over all rows, D the codec's step, s = 1/4: the
features get a quarter of the error that coding the samples brings them, in every channel.

Planes of weights (all positions of a row and a channel) are rounded after a cosine transform, for they are smooth where
σ is large, turned a little so that the smooth planes which the coordinator's review probes with (`mple.morph.smooth`)
are directions of their own. Along those steps are a 64th: most rows answer next to nothing to them, and their errors
must not drown the few that answer.

A code is coded by a table for its expected size, which both ends know from the rows before: the mean square
of a channel's and frequency's codes, running, times the row's own level, which travels. All of that is whole numbers.

Legend: G cores or blocks with rows of their own, d rows of a core, F filters, Y X plane, n codes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import constriction
import numpy as np
from numpy.typing import NDArray

from mple.morph.arithmetic import Floats
from mple.wire.layer_models import ESCAPE, INSIDE, SCALES, layer_models

SHARE = 1 / 4
"""s above."""
_FINE = 1 / 64
"""Step along a smooth plane, over that along others."""
_NO_TURN = 1e-9
_LARGEST = 2**24
_LEAST_DEVIATION = 0.25
"""Of a coefficient, in steps of its codec: what is smaller counts as so large."""
_UNIT = 16
"""Running mean squares are of codes over their row's level, in units of 2^-16."""
_LOWEST_LEVEL, _HIGHEST_LEVEL = -16, 47
_FIRST_SCALE = -8
"""log2 of the mean square that the first table is for; each further one is for twice as much."""
_TOGETHER = 16
"""Rows of cores that are coded side by side, each by the sizes that those before have left."""


class CodedLayerError(ValueError):
    """Bytes that no layer of these sizes is coded to."""


@dataclass(frozen=True, slots=True, eq=False)
class CodedLayer:
    """A layer as it travels."""

    rows_Gd: NDArray[np.float32]
    """A row's step is that of the channel times this."""
    channels_F: NDArray[np.float32]
    levels_Gd: NDArray[np.int8]
    """log2 of each row's mean square code, those along smooth planes over 64."""
    words: NDArray[np.uint32]
    """The entropy coded codes."""


def coded(weight_GdFYX: Floats, deviations_Gd: NDArray[np.float32], step: float, smooth_SYX: Floats) -> CodedLayer:
    """Round and code a layer's weights.

    Args:
        weight_GdFYX: For each core or block its rows.
        deviations_Gd: Of the coefficients; one core's for all where blocks share it.
        step: Of the codec, D.
        smooth_SYX: The planes that reviews probe with.

    Raises ValueError: a weight is not finite.
    """
    cores, rows, filters = weight_GdFYX.shape[:3]
    deviations_Gd = np.maximum(
        np.broadcast_to(deviations_Gd, (cores, rows)).astype(np.float64), _LEAST_DEVIATION * step
    )
    square_F = np.zeros(filters)
    for block_dFYX in weight_GdFYX:
        square_F += np.einsum("dfyx,dfyx->f", block_dFYX, block_dFYX, dtype=np.float64)
    if not np.isfinite(square_F).all():
        raise ValueError("a weight of the layer is NaN or infinite")
    outputs = cores * math.prod(weight_GdFYX.shape[3:])
    channels_F = (SHARE * step * np.sqrt(square_F / outputs / rows)).astype(np.float32)
    channels_F[channels_F == 0] = 1
    rows_Gd = np.ascontiguousarray(1 / deviations_Gd, np.float32)
    transform = _PlaneTransform(smooth_SYX)
    levels_Gd = np.empty((cores, rows), np.int8)
    encoder, sizes = constriction.stream.queue.RangeEncoder(), _Sizes(weight_GdFYX.shape)
    for group in _groups(cores, rows):
        steps_gFYX = _steps(rows_Gd[group], channels_F, transform)
        codes = (
            np.rint(transform.forth(weight_GdFYX[group].astype(np.float64)) / steps_gFYX)
            .clip(-_LARGEST, _LARGEST)
            .astype(np.int64)
        )
        mean_g = np.maximum(np.square(codes * transform.fineness_YX).mean((1, 2, 3)), 2.0**_LOWEST_LEVEL)
        levels_Gd[group] = np.clip(np.rint(np.log2(mean_g)), _LOWEST_LEVEL, _HIGHEST_LEVEL)
        scales = sizes.scales(levels_Gd[group])
        _encode(encoder, codes.ravel(), scales.ravel())
        sizes.add(codes, levels_Gd[group])
    return CodedLayer(rows_Gd, channels_F, levels_Gd, encoder.get_compressed())


def weights_of(layer: CodedLayer, shape: tuple[int, int, int, int, int], smooth_SYX: Floats) -> NDArray[np.float32]:
    """The weights behind a coded layer, whose bytes are not trusted; `shape` is (G, d, F, Y, X), and memory for it is
    allocated; `smooth_SYX` as `coded` was given.

    Raises CodedLayerError: no layer of this shape is coded so.
    """
    cores, rows = shape[:2]
    levels_Gd, steps = layer.levels_Gd, (layer.rows_Gd, layer.channels_F)
    if not all(np.isfinite(one).all() and (one > 0).all() for one in steps):
        raise CodedLayerError("a step is not above 0")
    if levels_Gd.min() < _LOWEST_LEVEL or levels_Gd.max() > _HIGHEST_LEVEL:
        raise CodedLayerError(f"levels from {levels_Gd.min()} to {levels_Gd.max()}")
    transform = _PlaneTransform(smooth_SYX)
    weight_GdFYX = np.empty(shape, np.float32)
    decoder, sizes = constriction.stream.queue.RangeDecoder(layer.words), _Sizes(shape)
    for group in _groups(cores, rows):
        scales = sizes.scales(levels_Gd[group])
        try:
            codes = _decode(decoder, scales.ravel()).reshape(scales.shape)
        except (AssertionError, ValueError) as fault:
            raise CodedLayerError(f"these are no codes of a layer: {fault}") from None
        sizes.add(codes, levels_Gd[group])
        weight_GdFYX[group] = transform.back(codes * _steps(layer.rows_Gd[group], layer.channels_F, transform))
    if not decoder.maybe_exhausted():
        raise CodedLayerError("more codes than the layer has weights")
    return weight_GdFYX


class _PlaneTransform:
    """Orthonormal: the cosine transform of both axes, then a reflection for each smooth plane, which takes it to the
    frequency that it has most of."""

    def __init__(self, smooth_SYX: Floats) -> None:
        self._rows, self._columns = _cosines(smooth_SYX.shape[1]), _cosines(smooth_SYX.shape[2])
        planes_SYX = self._rows @ smooth_SYX @ self._columns.T
        rest = list(np.linalg.qr(planes_SYX.reshape(len(planes_SYX), -1).T)[0].T)
        fineness = np.ones(planes_SYX[0].size)
        self._mirrors: list[NDArray[np.float64]] = []
        while rest:
            plane, *rest = rest
            place = int(np.abs(plane).argmax())
            fineness[place] = _FINE
            normal = plane * np.sign(plane[place])
            normal[place] -= 1
            if (length := float(np.linalg.norm(normal))) > _NO_TURN:
                self._mirrors.append(normal / length)
                rest = [_mirrored(other, self._mirrors[-1]) for other in rest]
        self.fineness_YX = fineness.reshape(planes_SYX[0].shape)

    def forth(self, planes_gFYX: Floats) -> Floats:
        """Planes by frequency."""
        turned: Floats = (self._rows @ planes_gFYX @ self._columns.T).reshape(*planes_gFYX.shape[:2], -1)
        for normal in self._mirrors:
            turned = _mirrored(turned, normal)
        return turned.reshape(planes_gFYX.shape)

    def back(self, frequencies_gFYX: Floats) -> Floats:
        """The planes of frequencies."""
        turned: Floats = frequencies_gFYX.reshape(*frequencies_gFYX.shape[:2], -1)
        for normal in reversed(self._mirrors):
            turned = _mirrored(turned, normal)
        return np.asarray(self._rows.T @ turned.reshape(frequencies_gFYX.shape) @ self._columns)


def _mirrored(vectors: Floats, normal: NDArray[np.float64]) -> Floats:
    return np.asarray(vectors - 2 * (vectors @ normal)[..., None] * normal)


def _steps(
    rows_g: NDArray[np.float32], channels_F: NDArray[np.float32], transform: _PlaneTransform
) -> NDArray[np.float64]:
    return np.asarray((rows_g.astype(np.float64)[:, None] * channels_F)[:, :, None, None] * transform.fineness_YX)


class _Sizes:
    """Running mean squares of codes by channel and frequency, over the rows' levels."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._mean_FYX = np.full(shape[2:], 1 << _UNIT, np.int64)

    def scales(self, levels_g: NDArray[np.int8]) -> NDArray[np.int64]:
        """The table of each code of rows with these levels; beyond the last one the codes' low bits go apart."""
        octaves_FYX = np.searchsorted(_BORDERS, self._mean_FYX) - _UNIT
        return np.asarray(np.maximum(octaves_FYX + levels_g.astype(np.int64)[:, None, None, None] - _FIRST_SCALE, 0))

    def add(self, codes: NDArray[np.int64], levels_g: NDArray[np.int8]) -> None:
        """Take in rows."""
        found = np.zeros_like(self._mean_FYX)
        for codes_FYX, level in zip(codes, levels_g.tolist(), strict=True):
            square_FYX = np.minimum(codes_FYX * codes_FYX, 1 << 40)
            shift = _UNIT - level
            over = square_FYX >> -shift if shift < 0 else np.minimum(square_FYX, (1 << 40) >> shift) << shift
            found += np.minimum(over, 1 << 32)
        found //= len(codes)
        self._mean_FYX += (found - self._mean_FYX) >> 1


_BORDERS = np.array([math.isqrt(2 ** (2 * octave + 1)) for octave in range(40)], np.int64)
"""Between octaves: 2^(octave + 1/2)."""


def _groups(cores: int, rows: int) -> Iterator[tuple[slice, int]]:
    for row in range(rows):
        for low in range(0, cores, _TOGETHER):
            yield slice(low, low + _TOGETHER), row


def _encode(
    encoder: constriction.stream.queue.RangeEncoder, codes: NDArray[np.int64], scales: NDArray[np.int64]
) -> None:
    models = layer_models()
    for scale, places in _by_scale(scales):
        shift = _shift(scale)
        some = codes[places]
        high = some >> shift
        outside = np.abs(high) > INSIDE
        symbols = np.where(outside, ESCAPE, high + INSIDE).astype(np.int32)
        encoder.encode(symbols, models.scales[min(scale, SCALES - 1)])
        written = (some[outside] + _LARGEST).astype(np.int64)
        for part in (written >> 13, written & 0x1FFF):
            encoder.encode(part.astype(np.int32), models.escape)
        for low, bits in _pieces(shift):
            part = (some[~outside] >> low) & ((1 << bits) - 1)
            encoder.encode(part.astype(np.int32), models.bits[bits])


def _decode(decoder: constriction.stream.queue.RangeDecoder, scales: NDArray[np.int64]) -> NDArray[np.int64]:
    models, codes = layer_models(), np.empty(scales.shape, np.int64)
    for scale, places in _by_scale(scales):
        shift = _shift(scale)
        symbols = decoder.decode(models.scales[min(scale, SCALES - 1)], len(places)).astype(np.int64)
        outside = symbols == ESCAPE
        some = (symbols - INSIDE) << shift
        count = int(outside.sum())
        high, low_part = (decoder.decode(models.escape, count).astype(np.int64) for _ in range(2))
        for low, bits in _pieces(shift):
            some[~outside] |= decoder.decode(models.bits[bits], len(places) - count).astype(np.int64) << low
        some[outside] = (high << 13 | low_part) - _LARGEST
        if np.abs(some).max(initial=0) > _LARGEST:
            raise CodedLayerError("a code is beyond the range")
        codes[places] = some
    return codes


def _by_scale(scales: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    for scale in np.unique(scales).tolist():
        yield scale, np.flatnonzero(scales == scale)


def _shift(scale: int) -> int:
    """Low bits of a code that are written as they are, for two octaves of a mean square a bit."""
    return min(max(0, scale - SCALES + 2) // 2, 24)


def _pieces(shift: int) -> list[tuple[int, int]]:
    return [(low, min(8, shift - low)) for low in range(0, shift, 8)]


def _cosines(count: int) -> NDArray[np.float64]:
    """The orthonormal cosine transform (DCT-II) of so many values, rising frequencies."""
    frequencies, places = np.arange(count)[:, None], np.arange(count)[None]
    made = np.cos(np.pi * (2 * places + 1) * frequencies / (2 * count)) * math.sqrt(2 / count)
    made[0] /= math.sqrt(2)
    return np.asarray(made)
