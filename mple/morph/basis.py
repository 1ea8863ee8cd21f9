"""The basis of a transform codec: what a key's morphed blocks are written in, so that few of their values matter.

A site knows its own morphed blocks t. Their second moment S = mean(t't) has eigenvectors V, along which they are as
compact as plain blocks are along their own (Karhunen and Loeve): S = M'·Sigma·M, so V = M'·U. What leaves are
coefficients along W = V·R, where R is a secret random rotation within bands of directions of similar variance: without
it a coefficient were the plain picture's own, up to its sign. R is drawn from the key, as cores are. W is rounded to
8 bits a value with a scale for each column, W~, and coefficients are fitted to W~ by least squares,

    c = t·W~·inv(W~'·W~),    t = c·W~' + what the columns do not span,

so that rounding W costs nothing. Directions whose coefficients would be rounded to zero practically always are left
out, which leaves d of Q; the smooth ones of `mple.morph.smooth` always stay, for layers are reviewed by them.

Guarantees: equal pictures, key and session give an equal basis on one machine with equal threads, not on two: a basis
is kept, never made again for codes that have left. With d = Q nothing is lost but float rounding.
Not promised: secrecy. A basis is a function of morphed blocks and key; who has all morphed blocks knows their second
moment without it. See docs/science/privacy.md.

Legend: G cores of a key (1 where blocks share one, else K), Q core side, d columns kept, R blocks, S smooth directions.
"""

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mple.morph.arithmetic import Floats
from mple.morph.cores import draw_core, random_orthogonal
from mple.morph.keys import MorphKey
from mple.morph.scheme import Cores, Ensemble, ImageShape, Layout, MorphGeometry, MorphScheme
from mple.morph.smooth import axis_directions, smooth_directions

LARGEST_DENSE_SIDE = 1024
"""Beyond, directions are products of those of rows, columns and channels: some thousand pictures say little of more,
and eigenvectors of larger matrices take minutes."""
_LEVELS = 127
_ROWS_AT_ONCE = 4096
_EXACT = 1e-9
_LEAST_BAND, _BAND_RATIO = 3, 0.5
_LEAST_DEVIATION = 1 / 6
"""In steps: a direction of a smaller root mean square is left out."""
_SMOOTH_VARIANCE = 16.0
"""In squared steps, added to the variance of smooth directions when it is decided which ones stay."""


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """The basis of one key: W~ as whole numbers and scales, and how coefficients are coded."""

    synthesis_GdQ: NDArray[np.int8]
    """Row j of a core: what coefficient j adds to a block, in units of its scale."""
    scales_Gd: NDArray[np.float32]
    coding: bytes = b""
    """Opaque here; see `mple.wire.coding`."""

    def __post_init__(self) -> None:
        shape, scales = self.synthesis_GdQ.shape, self.scales_Gd
        if len(shape) != 3 or not 1 <= shape[1] <= shape[2] or shape[0] < 1:
            raise ValueError(f"a basis of shape {shape}; needs (cores, columns, core side), 1 to core side columns")
        if scales.shape != shape[:2] or not (np.isfinite(scales).all() and (scales > 0).all()):
            raise ValueError(f"scales of shape {scales.shape} for a basis of {shape}, or one is not above 0")

    @property
    def cores(self) -> int:
        """G."""
        return int(self.synthesis_GdQ.shape[0])

    @property
    def columns(self) -> int:
        """d."""
        return int(self.synthesis_GdQ.shape[1])

    @property
    def core_side(self) -> int:
        """Q."""
        return int(self.synthesis_GdQ.shape[2])

    def synthesis(self, core: int) -> NDArray[np.float64]:
        """W~' (d, Q) of a core: c.W~' is the block."""
        scales_d1 = self.scales_Gd[core].astype(np.float64)[:, None]
        return np.asarray(self.synthesis_GdQ[core] * scales_d1)

    def analysis(self, core: int) -> NDArray[np.float64]:
        """W~.inv(W~'W~) (Q, d) of a core: t times it is c. Raises ValueError: the columns depend on each other."""
        synthesis_dQ = self.synthesis(core)
        gram_dd = synthesis_dQ @ synthesis_dQ.T
        with contextlib.suppress(np.linalg.LinAlgError):
            analysis_Qd = np.asarray(np.linalg.solve(gram_dd, synthesis_dQ).T)
            if np.abs(synthesis_dQ @ analysis_Qd - np.eye(self.columns)).max() < _EXACT:
                return analysis_Qd
        raise ValueError(f"the basis of core {core} has columns that depend on each other")

    @property
    def analysis_GQd(self) -> NDArray[np.float64]:
        """All cores' analysis."""
        return np.stack([self.analysis(core) for core in range(self.cores)])


def require_fitting(basis: Basis | None, scheme: MorphScheme, geometry: MorphGeometry) -> None:
    """Raise ValueError when there is a basis and it is none of this scheme's."""
    if basis is None:
        return
    if scheme.ensemble is not Ensemble.ORTHOGONAL:
        raise ValueError("a basis goes with orthogonal cores; uniform ones have none")
    due = geometry.cores(scheme), geometry.core_side
    if (basis.cores, basis.core_side) != due:
        raise ValueError(f"a basis of {basis.cores} cores of side {basis.core_side}; the scheme needs {due}")


def core_extents(scheme: MorphScheme, image: ImageShape) -> tuple[int, int, int]:
    """Channels, rows and columns that a core above `LARGEST_DENSE_SIDE` covers.

    Raises ValueError: it covers no whole rows of a channel, and no whole channels.
    """
    geometry = MorphGeometry.of(scheme, image)
    if scheme.layout is Layout.TILED:
        return image.channels, scheme.tile, scheme.tile
    width, plane = geometry.padded_width, geometry.padded_height * geometry.padded_width
    if geometry.core_side % plane == 0:
        return geometry.core_side // plane, geometry.padded_height, width
    if geometry.core_side % width or plane % geometry.core_side:
        raise ValueError(
            f"morph.kappa = {scheme.kappa} makes cores of {geometry.core_side} values, no whole rows of a channel; a "
            "transform codec needs other cores: change morph.kappa, take the tiled layout, or a codec qN"
        )
    return 1, geometry.core_side // width, width


def require_transformable(scheme: MorphScheme, image: ImageShape) -> None:
    """Raise ValueError when no basis can be fitted for a scheme: uniform cores, or large ones across rows."""
    if scheme.ensemble is not Ensemble.ORTHOGONAL:
        raise ValueError('transform codecs kN need orthogonal cores; with uniform ones set wire.codec = "q6"')
    if MorphGeometry.of(scheme, image).core_side > LARGEST_DENSE_SIDE:
        core_extents(scheme, image)


def fit_directions(
    x_RKQ: Floats,
    scheme: MorphScheme,
    image: ImageShape,
    key: MorphKey,
    *,
    session: bytes,
    key_epoch: int,
    step: float,
) -> Basis:
    """The basis of a key, fitted to pictures, without a coding.

    Args:
        x_RKQ: Blocks of normalised pictures, with their noise, as `mple.morph.morpher.to_blocks` cuts them.
        scheme: Layout and cores.
        image: Of the pictures.
        key: Whose cores the basis belongs to; the rotation is drawn from it, too.
        session: The run's.
        key_epoch: The key's.
        step: Of the codec, in units of normalised pixels: what is far below it is left out.

    Raises ValueError: no pictures; or as `require_transformable`.
    """
    require_transformable(scheme, image)
    if not len(x_RKQ):
        raise ValueError("a basis is fitted to training pictures, and there are none")
    geometry = MorphGeometry.of(scheme, image)
    count, side = geometry.cores(scheme), geometry.core_side
    found = (_separable if side > LARGEST_DENSE_SIDE else _dense)(x_RKQ, scheme, image, step)
    columns = max(one.kept for one in found)
    synthesis_GdQ = np.empty((count, columns, side), np.int8)
    scales_Gd = np.empty((count, columns), np.float32)
    for number, directions in enumerate(found):
        core = draw_core(key, scheme, side, session=session, key_epoch=key_epoch, block=number)
        w_Qd = core.core_QQ.T @ directions.leading(columns)
        label = b"\0".join(
            [b"bands", len(session).to_bytes(4, "big") + session, b"%d" % key_epoch, b"%d" % number, b""]
        )
        for low, high in bands(directions.variance_Q[:columns]):
            w_Qd[:, low:high] = w_Qd[:, low:high] @ random_orthogonal(key.seed, label + b"%d" % low, high - low)
        scales_Gd[number] = np.abs(w_Qd).max(0) / _LEVELS
        synthesis_GdQ[number] = np.rint(w_Qd / scales_Gd[number]).clip(-_LEVELS, _LEVELS).T
    return Basis(synthesis_GdQ, scales_Gd)


def bands(variance_d: NDArray[np.floating]) -> list[tuple[int, int]]:
    """Begin and end of each band that is rotated in itself, of directions of falling variance: three at least, and as
    many as have more than half the variance of the first. Wider bands hide signs no better and cost bits: a rotation
    makes all columns of a band as wide as their mean."""
    edges = [0]
    while (low := edges[-1]) < len(variance_d):
        high = min(low + _LEAST_BAND, len(variance_d))
        while high < len(variance_d) and variance_d[high] >= variance_d[low] * _BAND_RATIO:
            high += 1
        edges.append(len(variance_d) if len(variance_d) - high < _LEAST_BAND else high)
    return list(itertools.pairwise(edges))


@dataclass(frozen=True, slots=True)
class _Directions:
    """Of one core, in the space of plain blocks: those that stay first, of largest variance first."""

    axes: Sequence[NDArray[np.float64]]
    """Directions of each axis, as columns; one axis where there is no more to a block than its values."""
    order_Q: NDArray[np.intp]
    variance_Q: NDArray[np.float64]
    """In that order."""
    kept: int

    def leading(self, count: int) -> NDArray[np.float64]:
        """So many of them, (Q, d)."""
        places = np.unravel_index(self.order_Q[:count], [axis.shape[1] for axis in self.axes])
        leading_Qd = np.ones((1, count))
        for axis_XX, at in zip(self.axes, places, strict=True):
            leading_Qd = (leading_Qd[:, None] * axis_XX[None, :, at]).reshape(-1, count)
        return leading_Qd


def _dense(x_RKQ: Floats, scheme: MorphScheme, image: ImageShape, step: float) -> list[_Directions]:
    pictures, blocks, side = x_RKQ.shape
    if scheme.cores is Cores.IDENTICAL:
        moments = [_moment(x_RKQ.reshape(-1, side))]
        met = pictures * blocks
    else:
        moments = [_moment(x_RKQ[:, block]) for block in range(blocks)]
        # Of few pictures: as if each core had met Q blocks more, of all places.
        shared_QQ = sum(moments, np.zeros((side, side))) / blocks
        moments = [(moment_QQ * pictures + shared_QQ * side) / (pictures + side) for moment_QQ in moments]
        met = min(pictures + side, pictures * blocks)
    # The least eigenvalues of white noise come out so much too small (Marchenko and Pastur, 1967).
    shrunk = (1 - (side / met) ** 0.5) ** 2 if met > side else 0.0
    found = []
    for number, moment_QQ in enumerate(moments):
        smooth_QS = smooth_directions(scheme, image, number)
        raised_QQ = moment_QQ + _SMOOTH_VARIANCE * step**2 * (smooth_QS @ smooth_QS.T)
        raised_Q, vectors_QQ = np.linalg.eigh(raised_QQ)
        stays_Q = (raised_Q >= (_LEAST_DEVIATION * step) ** 2 * shrunk) | (shrunk == 0)
        variance_Q = np.einsum("iq,iq->q", vectors_QQ, moment_QQ @ vectors_QQ)
        order_Q = np.lexsort((-variance_Q, ~stays_Q))
        found.append(_Directions((vectors_QQ,), order_Q, variance_Q[order_Q], int(stays_Q.sum())))
    return found


def _separable(x_RKQ: Floats, scheme: MorphScheme, image: ImageShape, step: float) -> list[_Directions]:
    extents = core_extents(scheme, image)
    shared = scheme.cores is Cores.IDENTICAL
    found = []
    for number in range(1 if shared else x_RKQ.shape[1]):
        x_Rchw = (x_RKQ if shared else x_RKQ[:, number]).reshape(-1, *extents)
        channels_cc, _ = _axis(x_Rchw, 1, np.empty((extents[0], 0)))
        rows_hh, smooth_rows = _axis(x_Rchw, 2, axis_directions(scheme, extents[1]))
        columns_ww, smooth_columns = _axis(x_Rchw, 3, axis_directions(scheme, extents[2]))
        variance_chw = np.zeros(extents)
        for low in range(0, len(x_Rchw), _ROWS_AT_ONCE):
            some = x_Rchw[low : low + _ROWS_AT_ONCE].astype(np.float64)
            y_Rchw = np.einsum("rchw,ci->rihw", some, channels_cc).swapaxes(2, 3) @ rows_hh
            variance_chw += np.square(y_Rchw.swapaxes(2, 3) @ columns_ww).sum(0)
        stays_chw = variance_chw >= (_LEAST_DEVIATION * step) ** 2 * len(x_Rchw)
        stays_chw[:, :smooth_rows, :smooth_columns] = True
        order_Q = np.lexsort((-variance_chw.ravel(), ~stays_chw.ravel()))
        axes, kept = (channels_cc, rows_hh, columns_ww), int(stays_chw.sum())
        found.append(_Directions(axes, order_Q, variance_chw.ravel()[order_Q], kept))
    return found


def _axis(x_Rchw: Floats, axis: int, smooth_XS: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """Directions of one axis, the smooth ones first, each part by variance; and how many are smooth."""
    moment_XX = _moment(np.moveaxis(x_Rchw, axis, -1).reshape(-1, x_Rchw.shape[axis]))
    whole_XX = np.linalg.qr(np.concatenate([smooth_XS, np.eye(len(moment_XX))], axis=1))[0]
    smooth = smooth_XS.shape[1]
    parts = [part @ np.linalg.eigh(part.T @ moment_XX @ part)[1][:, ::-1] for part in np.split(whole_XX, [smooth], 1)]
    return np.concatenate(parts, axis=1), smooth


def _moment(x_RQ: Floats) -> NDArray[np.float64]:
    """Mean of x'x, without a float64 copy of all rows."""
    total_QQ = np.zeros((x_RQ.shape[1],) * 2)
    for low in range(0, len(x_RQ), _ROWS_AT_ONCE):
        some = x_RQ[low : low + _ROWS_AT_ONCE].astype(np.float64)
        total_QQ += some.T @ some
    return total_QQ / len(x_RQ)
