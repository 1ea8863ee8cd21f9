"""What kind of morphing: layout, cores, ensemble, and what follows for an image shape.

Legend: C channels, H W size, N unrolled length, K blocks, Q core side; N' = K·Q is the morphed length.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated

from mple.ranges import Between, check_ranges

Kappa = Annotated[int, Between(1)]
Tile = Annotated[int, Between(1, 64)]
Border = Annotated[int, Between(0, 3)]


class Layout(StrEnum):
    """Which values of an image share a core."""

    UNROLLED = "unrolled"
    """Contiguous runs of the channel-major unrolled vector, as in the paper."""
    TILED = "tiled"
    """Square tiles over all channels; the augmented layer stays local."""


class Cores(StrEnum):
    """Whether blocks share one core."""

    IDENTICAL = "identical"
    DISTINCT = "distinct"


class Ensemble(StrEnum):
    """Distribution that cores are drawn from."""

    ORTHOGONAL = "orthogonal"
    """Haar measure on O(Q): condition number 1, white noise stays white."""
    UNIFORM = "uniform"
    """Entries uniform on [0, 1) as in the MoLe authors' code: condition number near 1e6 at Q = 3072."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageShape:
    """Shape of one image."""

    channels: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if min(self.channels, self.height, self.width) < 1:
            raise ValueError(f"image shape {self.channels}x{self.height}x{self.width}: every extent must be 1 or more")

    @property
    def elements(self) -> int:
        """N, values of one image; also its raw bytes at 8 bits a value."""
        return self.channels * self.height * self.width


@dataclass(frozen=True, kw_only=True, slots=True)
class MorphScheme:
    """The public part of morphing; all that is secret is the key."""

    layout: Layout
    cores: Cores
    ensemble: Ensemble
    kappa: Kappa = 1
    """Number of cores on the diagonal; `unrolled` only."""
    tile: Tile = 8
    """Tile side in pixels; `tiled` only."""
    border: Border = 0
    """Zero pixels added on each side before unrolling; `unrolled` only."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.layout is Layout.TILED and (self.kappa != 1 or self.border != 0):
            raise ValueError("kappa and border belong to the unrolled layout; the tiled one has tile")


PRESETS: Mapping[str, MorphScheme] = MappingProxyType(
    {
        "compact": MorphScheme(layout=Layout.TILED, cores=Cores.IDENTICAL, ensemble=Ensemble.ORTHOGONAL),
        "distinct": MorphScheme(layout=Layout.TILED, cores=Cores.DISTINCT, ensemble=Ensemble.ORTHOGONAL),
        "paper": MorphScheme(layout=Layout.UNROLLED, cores=Cores.DISTINCT, ensemble=Ensemble.ORTHOGONAL),
        "mole": MorphScheme(layout=Layout.UNROLLED, cores=Cores.IDENTICAL, ensemble=Ensemble.UNIFORM, border=1),
    }
)
"""`compact` is the default; `paper` is one dense core; `mole` is the MoLe authors' published code."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MorphGeometry:
    """What a scheme means for one image shape."""

    blocks: int
    """Of a picture, K."""
    core_side: int
    """Values that a core takes and gives, Q."""
    rows: int
    """Tiles along the height; 1 for `unrolled`."""
    columns: int
    """Tiles along the width; 1 for `unrolled`."""
    padded_height: int
    padded_width: int

    def cores(self, scheme: MorphScheme) -> int:
        """G, cores of a key: 1 where all blocks share one."""
        return 1 if scheme.cores is Cores.IDENTICAL else self.blocks

    @property
    def morphed_elements(self) -> int:
        """N' = K·Q, values of one morphed image."""
        return self.blocks * self.core_side

    @classmethod
    def of(cls, scheme: MorphScheme, image: ImageShape) -> MorphGeometry:
        """Blocks and padding of `scheme` on `image`. Raises ValueError: `kappa` does not divide the unrolled length."""
        if scheme.layout is Layout.TILED:
            rows, columns = -(-image.height // scheme.tile), -(-image.width // scheme.tile)
            return cls(
                blocks=rows * columns,
                core_side=image.channels * scheme.tile**2,
                rows=rows,
                columns=columns,
                padded_height=rows * scheme.tile,
                padded_width=columns * scheme.tile,
            )
        height, width = image.height + 2 * scheme.border, image.width + 2 * scheme.border
        length = image.channels * height * width
        if length % scheme.kappa:
            low = [k for k in range(1, math.isqrt(length) + 1) if length % k == 0]
            near = sorted({*low, *(length // k for k in low)})
            near.sort(key=lambda k: (abs(k - scheme.kappa), k))
            raise ValueError(
                f"kappa = {scheme.kappa} does not divide the unrolled length {length}; "
                f"near it {', '.join(map(str, sorted(near[:4])))} do"
            )
        return cls(
            blocks=scheme.kappa,
            core_side=length // scheme.kappa,
            rows=1,
            columns=1,
            padded_height=height,
            padded_width=width,
        )


def expected_weight_shape(
    scheme: MorphScheme, image_shape: ImageShape, filters: int, kernel: int, coefficients: int | None = None
) -> tuple[int, ...]:
    """The shape of a layer's weight; `coefficients` is d of a layer for coefficients, None for morphed values."""
    geometry = MorphGeometry.of(scheme, image_shape)
    rows = geometry.core_side if coefficients is None else coefficients
    if scheme.layout is Layout.UNROLLED:
        return (geometry.blocks * rows, filters * image_shape.height * image_shape.width)
    reach = scheme.tile + kernel - 1
    if scheme.cores is Cores.IDENTICAL:
        return (rows, filters, reach, reach)
    return (geometry.blocks, rows, filters * reach * reach)
