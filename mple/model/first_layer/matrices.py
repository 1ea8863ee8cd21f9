"""Matrices laid out once for many products: what an augmented layer multiplies by in every step of a training.

A large matrix comes in parts, columns side by side: only the part in hand is in memory twice, and a part's products
are put to their place while they are in the cache. `Int8Matrix` also rounds the matrix to 8 bits: half the memory of
bfloat16 and, with a processor's VNNI instructions, half the time.

| device | float32, bfloat16 | 8 bits |
| --- | --- | --- |
| processor with oneDNN | laid out for it | laid out for it, with VNNI; else in bfloat16 |
| other | torch's own product | `torch._int_mm` where the device has integer products; else in bfloat16 |

Legend: R rows of a product, I inputs, O outputs of a part.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from mple.model.device import Device
from mple.model.first_layer import packed

_LEVELS = 127
_LEAST_ROWS, _MULTIPLE = 32, 8
"""Of matrices that `torch._int_mm` multiplies: more than 16 rows, and sides that 8 divides."""


class FixedMatrix(ABC):
    """A matrix W (I, O) in the form in which products with it are fastest.

    Guarantees: equal rows of equal number give equal products, bit for bit, on one machine with equal thread counts.
    """

    @abstractmethod
    def products(self, x_RI: Tensor) -> Iterator[Tensor]:
        """x·W, part by part: each a y_RO of its own, contiguous memory."""

    @property
    @abstractmethod
    def held_bytes(self) -> int:
        """Memory that the matrix takes."""


class FloatMatrix(FixedMatrix):
    """W and x rounded to `dtype`, float32 or bfloat16; sums are made in float32, products come in `dtype`."""

    def __init__(self, parts_IO: Iterable[Tensor], dtype: torch.dtype, rows: int, device: Device) -> None:
        """Round and lay out a matrix.

        Args:
            parts_IO: W's columns, in any memory order.
            dtype: Of the arithmetic.
            rows: About how many rows a product will have; others are right, and may be slower.
            device: Where x will be.
        """
        self._dtype, self._device = dtype, device
        self._packed = device.packs and packed.lays_out(dtype)
        self._parts: list[Tensor] = []
        self._elements = 0
        for part_IO in parts_IO:
            part_OI = device.place(part_IO.detach().to(dtype)).t()
            self._elements += part_OI.numel()
            self._parts.append(packed.laid_out(part_OI, rows) if self._packed else part_OI)

    @override
    def products(self, x_RI: Tensor) -> Iterator[Tensor]:
        x_RI = x_RI.to(self._dtype)
        for part_OI in self._parts:
            if self._packed:
                yield packed.product(x_RI, part_OI)
            else:
                with self._device.autocast(torch.float32):
                    y_RO = functional.linear(x_RI, part_OI)
                yield y_RO

    @property
    @override
    def held_bytes(self) -> int:
        return self._elements * self._dtype.itemsize


class Int8Matrix(FixedMatrix):
    """W rounded to 8 bits with a scale for each column, times x rounded to 8 bits with a power of two for each row.

    Products are sums of 32-bit integers, scaled and rounded to bfloat16. Where those sums are not to be had, the same
    8-bit numbers are multiplied as bfloat16, which holds them exactly; sums are then rounded to float32.

    Guarantees: nothing is rounded that was 8-bit before: columns of layers that travelled as `int8`, and rows of
    integers up to 127 times a power of two, as the codecs `q4` to `q8` give. With s_r the power of two,
    max|x_r| <= 127·s_r < 2·max|x_r|, an element of x·W is off by at most

        s_r/2 · sum_i |W_io| + max|W_o|/254 · sum_i (|x_ri| + s_r/2) + 2^-7 of itself.

    Rounding errors are as good as independent: for the near Gaussian values of morphed images and layers rounding W
    costs about 0.9 % of the products' standard deviation, rounding x about 1.3 %.
    """

    def __init__(self, parts_IO: Iterable[Tensor], rows: int, device: Device, unit: float = 1.0) -> None:
        """Round and lay out a finite matrix; see `FloatMatrix`. Where rows are whole numbers times a `unit` that is no
        power of two, s_r is one times that unit."""
        self._device, self._unit = device, unit
        self._scales: list[Tensor] = []
        self._bytes: list[Tensor] = []
        self._codes: list[Tensor] = []
        self._wide: FloatMatrix | None = None
        codes = self._rounded(parts_IO)
        if device.packs and packed.multiplies_bytes():
            self._bytes = [packed.laid_out_bytes(codes_IO, rows) for codes_IO in codes]
        elif device.multiplies_bytes:
            self._codes = [device.place(_padded(codes_IO.t())) for codes_IO in codes]
        else:
            self._wide = FloatMatrix(codes, torch.bfloat16, rows, device)

    def _rounded(self, parts_IO: Iterable[Tensor]) -> Iterator[Tensor]:
        for part_IO in parts_IO:
            low_O, high_O = torch.aminmax(part_IO.detach(), dim=0)
            peak_O = torch.maximum(high_O, -low_O).float()
            scale_O = torch.where(peak_O > 0, peak_O / _LEVELS, torch.ones_like(peak_O))
            self._scales.append(self._device.place(scale_O))
            yield (part_IO.detach() / scale_O).round_().to(torch.int8)

    @override
    def products(self, x_RI: Tensor) -> Iterator[Tensor]:
        peak_R1 = x_RI.abs().amax(dim=1, keepdim=True).float()
        scale_R1 = _powers_of_two(peak_R1 / (_LEVELS * self._unit)) * self._unit
        codes_RI = (x_RI / scale_R1).round_()
        scale_R1 = scale_R1.bfloat16()
        if self._wide is not None:
            for y_RO, scale_O in zip(self._wide.products(codes_RI), self._scales, strict=True):
                yield (y_RO * scale_O).bfloat16().mul_(scale_R1)
            return
        if self._codes:
            rows, codes_RI = len(x_RI), _padded(codes_RI.to(torch.int8), _LEAST_ROWS)
            for codes_OI, scale_O in zip(self._codes, self._scales, strict=True):
                sums_RO = torch._int_mm(codes_RI, codes_OI.t())[:rows, : len(scale_O)]
                yield (sums_RO * scale_O).bfloat16().mul_(scale_R1)
            return
        codes_RI = codes_RI.add_(packed.ZERO_POINT).to(torch.uint8)
        for laid_out, scale_O in zip(self._bytes, self._scales, strict=True):
            yield packed.byte_product(codes_RI, laid_out, scale_O).mul_(scale_R1)

    @property
    @override
    def held_bytes(self) -> int:
        laid_out = sum(part.numel() for part in (*self._bytes, *self._codes))
        codes = self._wide.held_bytes if self._wide else laid_out
        return codes + sum(scale_O.nbytes for scale_O in self._scales)


class SplitMatrix(FixedMatrix):
    """A matrix of which some inputs spread too far for 8 bits: those are multiplied as bfloat16, the others as int8."""

    def __init__(self, wide: FloatMatrix, narrow: Int8Matrix, wide_I: Tensor) -> None:
        """Of the parts of both, cut alike; `wide_I` says which inputs are the first matrix's."""
        self._wide, self._narrow = wide, narrow
        self._wide_I, self._narrow_I = wide_I.nonzero()[:, 0], (~wide_I).nonzero()[:, 0]

    @override
    def products(self, x_RI: Tensor) -> Iterator[Tensor]:
        wide = self._wide.products(x_RI.index_select(1, self._wide_I))
        narrow = self._narrow.products(x_RI.index_select(1, self._narrow_I))
        for y_RO, more_RO in zip(wide, narrow, strict=True):
            yield y_RO.add_(more_RO)

    @property
    @override
    def held_bytes(self) -> int:
        return self._wide.held_bytes + self._narrow.held_bytes


def _padded(codes: Tensor, least_rows: int = 0) -> Tensor:
    """With rows and columns of zeros beyond, as `torch._int_mm` asks."""
    rows, columns = (-(-side // _MULTIPLE) * _MULTIPLE for side in (max(len(codes), least_rows), codes.shape[1]))
    return functional.pad(codes, (0, columns - codes.shape[1], 0, rows - len(codes))).contiguous()


def _powers_of_two(least: Tensor) -> Tensor:
    """The smallest power of two from 2^-100 on that is not below each value."""
    mantissa, exponent = torch.frexp(least.clamp(min=2.0**-100))
    return torch.ldexp(torch.ones_like(least), exponent - (mantissa == 0.5).to(exponent.dtype))
