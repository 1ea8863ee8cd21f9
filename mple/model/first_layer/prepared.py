"""Augmented layers as the compute node applies them: the weight rounded, reordered and laid out once.

`AugmentedLayer.apply` says what a layer means and is what the forms here are tested against; a training that applies a
layer thousands of times prepares it. Features are written into the batch's own tensor with the channels of a pixel
together (channels last), which is the order that the trunk's convolutions train fastest in.

| layout | product | then |
| --- | --- | --- |
| tiled | each block times its core's weight: a piece of (s+p-1)² pixels | pieces are added where they overlap |
| unrolled | the whole vector times some rows of pixels at a time | rows are put side by side |

Guarantees: in `f32` the features keep the bounds of `mple.morph.augmented`. In `bf16` both factors and each feature
are rounded to bfloat16 (tiled: also the parts of a pixel that several tiles reach), sums are made in float32; the error
is below 0.4 % of the features' root mean square, as it is of a plain bf16 convolution. In `int8` (unrolled only) it is
below 0.2 % where layer and values were 8-bit before, and about 1.6 % where neither was; see `Int8Matrix`. Coefficients
that spread too far for 8 bits are multiplied as bfloat16 beside the others, and cost what they cost there. Layers of
uniform cores, whose products cancel to a millionth of their terms, compute in float32 whatever is asked for. Equal
samples in equal number give equal features, bit for bit, on one machine with equal thread counts. Not promised: that a
sample has the same last bits with other companions.

Legend: B samples, K blocks, E values of a block as the layer takes them: its core side, or the coefficients of a basis;
F filters, H W size, s tile side, p kernel side, r = s+p-1, N' = K·E.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mple.model.device import CPU, Device
from mple.model.first_layer.matrices import FixedMatrix, FloatMatrix, Int8Matrix, SplitMatrix
from mple.morph.arithmetic import Arithmetic
from mple.morph.augmented import AugmentedLayer
from mple.morph.scheme import Cores, Ensemble, Layout, MorphGeometry

_TYPICAL_SAMPLES = 128
_SHARED_ROWS, _DISTINCT_ROWS = 1024, 2048
"""Blocks whose pieces are made before they are added up: few enough to lie in a cache, and enough for few calls."""
_FEW = 8
"""Samples of a key are few where so many times as many are added up at once: of more, to lay the pieces of several keys
side by side takes longer than it spares."""
_BAND_COLUMNS = 8192
"""Features of one product with an unrolled layer, at least one row of pixels."""


class PreparedLayer(ABC):
    """A layer for one key, ready for use; it holds no other copy of the weight."""

    def __init__(self, layer: AugmentedLayer, arithmetic: Arithmetic, device: Device) -> None:
        self.device = device
        self._geometry = MorphGeometry.of(layer.scheme, layer.image_shape)
        self._values = layer.values
        self.image_shape, self.filters = layer.image_shape, layer.filters
        self.dtype = torch.float32 if arithmetic is Arithmetic.F32 else torch.bfloat16
        """Of the features."""
        self._inner_dtype = torch.float32 if layer.scheme.ensemble is Ensemble.UNIFORM else self.dtype

    def apply(self, t_BKE: Tensor) -> Tensor:
        """Features f_BFHW of morphed blocks or of their coefficients, channels last.

        Raises ValueError: the blocks have another shape than the scheme gives.
        """
        height, width = self.image_shape.height, self.image_shape.width
        f_BHWF = self.empty(len(t_BKE), height, width)
        self.fill(f_BHWF, t_BKE)
        return f_BHWF.permute(0, 3, 1, 2)

    def empty(self, samples: int, height: int, width: int) -> Tensor:
        """A tensor on the device for features f_BHWF, not written yet."""
        shape = (samples, height, width, self.filters)
        return torch.empty(shape, dtype=self.dtype, device=self.device.torch_device)

    def fill(self, f_BHWF: Tensor, t_BKE: Tensor) -> None:
        """Write the features of blocks into a tensor on the device. Where other keys have more coefficients, blocks are
        wider than this key's, with zeros beyond, which are not looked at.

        Raises ValueError: the blocks have another shape than the scheme gives.
        """
        self._fill(f_BHWF, self.own(t_BKE))

    def own(self, t_BKE: Tensor) -> Tensor:
        """What the layer looks at of blocks. Raises as `fill`."""
        found, needed = tuple(t_BKE.shape[1:]), (self._geometry.blocks, self._values)
        if found[:1] != needed[:1] or not needed[1] <= found[1] <= self._geometry.core_side:
            raise ValueError(f"morphed blocks of shape {found}, needs {needed}")
        return self.device.place(t_BKE)[:, :, : self._values]

    @property
    @abstractmethod
    def held_bytes(self) -> int:
        """Memory that the weight takes."""

    @abstractmethod
    def _fill(self, f_BHWF: Tensor, t_BKE: Tensor) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """How the values of a block are made, for arithmetic on 8-bit numbers."""

    unit: float = 1.0
    """Whole numbers times this, or this times a power of two, are what values are."""
    wide: int = 0
    """So many leading values of a block spread beyond 127 units."""


def prepare_layer(
    layer: AugmentedLayer, arithmetic: Arithmetic, device: Device = CPU, spread: Spread | None = None
) -> PreparedLayer:
    """Lay out a layer's weight for one arithmetic and device; the layer itself may be dropped then."""
    if layer.scheme.layout is Layout.UNROLLED:
        return _Unrolled(layer, arithmetic, device, spread or Spread())
    return _Tiled(layer, arithmetic, device)


def fill_side_by_side(f_BHWF: Tensor, t_BKE: Tensor, layers: Sequence[PreparedLayer], counts: Sequence[int]) -> None:
    """`PreparedLayer.fill` by several layers of one scheme: so many samples of the first one, then of the next.

    Of a hundred keys a batch has a sample or two each. Their pieces are made key by key and added up together: to add
    up those of a single sample takes as many calls as those of many.

    Guarantees: the features are those that each layer makes alone, bit for bit.

    Raises ValueError: as `PreparedLayer.fill`.
    """
    waiting: list[tuple[_Tiled, Tensor]] = []
    first = last = 0  # of the samples that wait, and behind them
    for layer, count in zip(layers, counts, strict=True):
        few = isinstance(layer, _Tiled) and count * _FEW <= layer.samples
        if waiting and (not few or last + count - first > waiting[0][0].samples):
            _fill_waiting(f_BHWF[first:last], waiting)
            waiting, first = [], last
        t_own, last = t_BKE[last : last + count], last + count
        if isinstance(layer, _Tiled) and few:
            waiting.append((layer, layer.own(t_own)))
        else:
            layer.fill(f_BHWF[first:last], t_own)
            first = last
    if waiting:
        _fill_waiting(f_BHWF[first:last], waiting)


def _fill_waiting(f_BHWF: Tensor, waiting: "Sequence[tuple[_Tiled, Tensor]]") -> None:
    waiting[0][0].add_up(f_BHWF, torch.cat([layer.pieces(t_BKE) for layer, t_BKE in waiting]))


class _Unrolled(PreparedLayer):
    _matrix: FixedMatrix

    def __init__(self, layer: AugmentedLayer, arithmetic: Arithmetic, device: Device, spread: Spread) -> None:
        super().__init__(layer, arithmetic, device)
        image, length = layer.image_shape, self._geometry.blocks * self._values
        weight_NFHW = torch.from_numpy(layer.weight).view(length, layer.filters, image.height, image.width)
        self._band = max(1, _BAND_COLUMNS // (layer.filters * image.width))
        eight_bits = arithmetic is Arithmetic.INT8 and layer.scheme.ensemble is not Ensemble.UNIFORM

        def bands(some_N: Tensor | None = None) -> Iterator[Tensor]:
            for low in range(0, image.height, self._band):
                band_NFhW = weight_NFHW[:, :, low : low + self._band]
                band_NFhW = band_NFhW if some_N is None else band_NFhW[some_N]
                band_NFhW = band_NFhW.to(torch.float32 if eight_bits else self._inner_dtype)
                yield band_NFhW.permute(0, 2, 3, 1).reshape(len(band_NFhW), -1)

        wide_N = (torch.arange(length) % self._values) < spread.wide
        if not eight_bits or wide_N.all():
            self._matrix = FloatMatrix(bands(), self._inner_dtype, _TYPICAL_SAMPLES, device)
        elif not wide_N.any():
            self._matrix = Int8Matrix(bands(), _TYPICAL_SAMPLES, device, spread.unit)
        else:
            wide = FloatMatrix(bands(wide_N), torch.bfloat16, _TYPICAL_SAMPLES, device)
            narrow = Int8Matrix(bands(~wide_N), _TYPICAL_SAMPLES, device, spread.unit)
            self._matrix = SplitMatrix(wide, narrow, device.place(wide_N))

    @property
    def held_bytes(self) -> int:
        return self._matrix.held_bytes

    def _fill(self, f_BHWF: Tensor, t_BKE: Tensor) -> None:
        for number, product_BO in enumerate(self._matrix.products(t_BKE.flatten(1))):
            rows_BhWF = f_BHWF[:, number * self._band : (number + 1) * self._band]
            rows_BhWF.copy_(product_BO.view(rows_BhWF.shape))


class _Tiled(PreparedLayer):
    def __init__(self, layer: AugmentedLayer, arithmetic: Arithmetic, device: Device) -> None:
        super().__init__(layer, arithmetic, device)
        self._tile, self._halo = layer.scheme.tile, layer.kernel // 2
        self._reach = self._tile + layer.kernel - 1
        shared = layer.scheme.cores is Cores.IDENTICAL
        # Where each block has a weight of its own, more samples at once, so that the weights are read less often.
        blocks = self._geometry.blocks
        self.samples = max(1, (_SHARED_ROWS if shared else _DISTINCT_ROWS) // blocks)
        rows = self.samples * (blocks if shared else 1)
        sides = self._reach, self._reach
        weight_KEFrr = torch.from_numpy(layer.weight).view(-1, self._values, layer.filters, *sides)
        self._matrices = [
            FloatMatrix([_channels_last(block_EFrr.to(self._inner_dtype))], self._inner_dtype, rows, device)
            for block_EFrr in weight_KEFrr
        ]

    @property
    def held_bytes(self) -> int:
        return sum(matrix.held_bytes for matrix in self._matrices)

    def _fill(self, f_BHWF: Tensor, t_BKE: Tensor) -> None:
        for low in range(0, len(t_BKE), self.samples):
            some = slice(low, low + self.samples)
            self.add_up(f_BHWF[some], self.pieces(t_BKE[some]))

    def add_up(self, f_BHWF: Tensor, pieces_BXYrrF: Tensor) -> None:
        """Write the features of the samples that pieces are of. What a piece has beside its tile is added to the pieces
        of the tiles there, first along rows, then along columns, which takes along what lies beyond corners; the
        middles of all pieces are then the image, with what the last tiles have beyond its sides."""
        height, width = self.image_shape.height, self.image_shape.width
        sides = self._geometry.padded_height, self._geometry.padded_width
        whole = (height, width) == sides
        target = f_BHWF if whole else self.empty(len(f_BHWF), *sides)
        rows, columns, tile = self._geometry.rows, self._geometry.columns, self._tile
        _gather(pieces_BXYrrF.permute(2, 4, 0, 1, 3, 5), tile, self._halo)
        middle = slice(self._halo, self._halo + tile)
        pieces_BXYrsF = pieces_BXYrrF[..., middle, :]
        _gather(pieces_BXYrsF.permute(1, 3, 0, 2, 4, 5), tile, self._halo)
        f_BXYssF = target.view(len(f_BHWF), rows, tile, columns, tile, self.filters).permute(0, 1, 3, 2, 4, 5)
        f_BXYssF.copy_(pieces_BXYrsF[:, :, :, middle])
        if not whole:
            f_BHWF.copy_(target[:, :height, :width])

    def pieces(self, t_BKE: Tensor) -> Tensor:
        """Each block's contribution to the pixels around it, (B, rows, columns, r, r, F)."""
        geometry, reach = self._geometry, self._reach
        inner = (reach, reach, self.filters)
        if len(self._matrices) == 1:
            (pieces_RO,) = self._matrices[0].products(t_BKE.reshape(-1, self._values))
            return pieces_RO.view(-1, geometry.rows, geometry.columns, *inner)
        shape = (geometry.blocks, len(t_BKE), reach * reach * self.filters)
        pieces_KBO = torch.empty(shape, dtype=self._inner_dtype, device=t_BKE.device)
        for block, matrix in enumerate(self._matrices):
            (pieces_KBO[block],) = matrix.products(t_BKE[:, block])
        return pieces_KBO.view(geometry.rows, geometry.columns, -1, *inner).permute(2, 0, 1, 3, 4, 5)


def _channels_last(block_EFrr: Tensor) -> Tensor:
    """One block's weight as a matrix whose columns run over pixels, then filters."""
    return block_EFrr.permute(0, 2, 3, 1).reshape(len(block_EFrr), -1)


def _gather(pieces: Tensor, tile: int, halo: int) -> None:
    """Add to the middle of each piece what other pieces have there, along one axis, in place.

    Args:
        pieces: First axis the tiles, second the r pixels of a piece along it.
        tile: s.
        halo: Pixels of a piece before its middle, and behind.
    """
    tiles, reach = pieces.shape[:2]
    for move in range(1, min(-(-halo // tile), tiles - 1) + 1):
        after, before = halo + move * tile, halo - move * tile
        pieces[move:, halo : halo + min(tile, reach - after)].add_(pieces[:-move, after : after + tile])
        low = max(0, before)
        pieces[:-move, halo + low - before : halo + tile].add_(pieces[move:, low : before + tile])
