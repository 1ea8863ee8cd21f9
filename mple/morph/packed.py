"""Matrices laid out once for many products: what an augmented layer multiplies by in every step of a training.

oneDNN multiplies by a matrix in blocks of its own; given a plain one it cuts the blocks anew in every product, which
for few rows takes longer than the product. `PackedMatrix` has them cut once. `Int8Matrix` also rounds the matrix to
8 bits: half the memory of bfloat16 and, with the VNNI instructions, half the time.

A large matrix comes in parts, columns side by side: only the part in hand is in memory twice, and a part's products
are put to their place while they are in the cache.

Legend: R rows of a product, I inputs, O outputs of a part.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

_LEVELS = 127
_ZERO_POINT = 128
"""Rows travel as unsigned bytes: the instructions multiply unsigned by signed ones."""


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


class PackedMatrix(FixedMatrix):
    """W rounded to `dtype`, float32 or bfloat16; sums are made in float32, products come in `dtype`."""

    def __init__(self, parts_IO: Iterable[Tensor], dtype: torch.dtype, rows: int) -> None:
        """Round and lay out a matrix.

        Args:
            parts_IO: W's columns, in any memory order.
            dtype: Of the arithmetic.
            rows: About how many rows a product will have; others are right, and may be slower.
        """
        self._dtype = dtype
        self._laid_out = _lays_out(dtype)
        self._parts: list[Tensor] = []
        self._elements = 0
        for part_IO in parts_IO:
            part_OI = part_IO.detach().to(dtype).t()
            self._elements += part_OI.numel()
            if self._laid_out:
                part_OI = torch.ops.mkldnn._reorder_linear_weight(part_OI, rows)
            self._parts.append(part_OI)

    def products(self, x_RI: Tensor) -> Iterator[Tensor]:
        """See `FixedMatrix.products`; x is rounded to `dtype`."""
        x_RI = x_RI.to(self._dtype)
        for part_OI in self._parts:
            if self._laid_out:
                yield torch.ops.mkldnn._linear_pointwise(x_RI, part_OI, None, "none", [], "")
            else:
                with torch.autocast("cpu", enabled=False):
                    y_RO = functional.linear(x_RI, part_OI)
                yield y_RO

    @property
    def held_bytes(self) -> int:
        """See `FixedMatrix.held_bytes`."""
        return self._elements * self._dtype.itemsize


class Int8Matrix(FixedMatrix):
    """W rounded to 8 bits with a scale for each column, times x rounded to 8 bits with a power of two for each row.

    Products are sums of 32-bit integers, scaled and rounded to bfloat16. Without VNNI, whose forerunners overflow, the
    same 8-bit numbers are multiplied as bfloat16, which holds them exactly; sums are then rounded to float32.

    Guarantees: nothing is rounded that was 8-bit before: columns of layers that travelled as `int8`, and rows of
    integers up to 127 times a power of two, as the codecs `q4` to `q8` give. With s_r the power of two,
    max|x_r| <= 127·s_r < 2·max|x_r|, an element of x·W is off by at most

        s_r/2 · sum_i |W_io| + max|W_o|/254 · sum_i (|x_ri| + s_r/2) + 2^-7 of itself.

    Rounding errors are as good as independent: for the near Gaussian values of morphed images and layers rounding W
    costs about 0.9 % of the products' standard deviation, rounding x about 1.3 %.
    """

    def __init__(self, parts_IO: Iterable[Tensor], rows: int) -> None:
        """Round and lay out a finite matrix; see `PackedMatrix`."""
        self._scales: list[Tensor] = []
        self._laid_out: list[Tensor] = []
        self._wide: PackedMatrix | None = None
        codes = self._rounded(parts_IO)
        if torch.cpu._is_vnni_supported():
            for codes_IO in codes:
                laid_out = torch.ops.onednn.qlinear_prepack(codes_IO.t().contiguous(), [rows, len(codes_IO)])
                self._laid_out.append(laid_out)
        else:
            self._wide = PackedMatrix(codes, torch.bfloat16, rows)

    def _rounded(self, parts_IO: Iterable[Tensor]) -> Iterator[Tensor]:
        for part_IO in parts_IO:
            low_O, high_O = torch.aminmax(part_IO.detach(), dim=0)
            peak_O = torch.maximum(high_O, -low_O).float()
            self._scales.append(torch.where(peak_O > 0, peak_O / _LEVELS, torch.ones_like(peak_O)))
            yield (part_IO.detach() / self._scales[-1]).round_().to(torch.int8)

    def products(self, x_RI: Tensor) -> Iterator[Tensor]:
        """See `FixedMatrix.products`; they come in bfloat16."""
        scale_R1 = _powers_of_two(x_RI.abs().amax(dim=1, keepdim=True).float() / _LEVELS)
        codes_RI = (x_RI / scale_R1).round_()
        scale_R1 = scale_R1.bfloat16()
        if self._wide is not None:
            for y_RO, scale_O in zip(self._wide.products(codes_RI), self._scales, strict=True):
                yield (y_RO * scale_O).bfloat16().mul_(scale_R1)
            return
        codes_RI = codes_RI.add_(_ZERO_POINT).to(torch.uint8)
        for laid_out, scale_O in zip(self._laid_out, self._scales, strict=True):
            zero_O = torch.zeros(len(scale_O), dtype=torch.int64)
            y_RO = torch.ops.onednn.qlinear_pointwise(
                codes_RI, 1.0, _ZERO_POINT, laid_out, scale_O, zero_O,
                None, 1.0, 0, torch.bfloat16, "none", [], "",
            )  # fmt: skip
            yield y_RO.mul_(scale_R1)

    @property
    def held_bytes(self) -> int:
        """See `FixedMatrix.held_bytes`."""
        codes = self._wide.held_bytes if self._wide else sum(laid_out.numel() for laid_out in self._laid_out)
        return codes + sum(scale_O.nbytes for scale_O in self._scales)


def _powers_of_two(least: Tensor) -> Tensor:
    """The smallest power of two from 2^-100 on that is not below each value."""
    mantissa, exponent = torch.frexp(least.clamp(min=2.0**-100))
    return torch.ldexp(torch.ones_like(least), exponent - (mantissa == 0.5).to(exponent.dtype))


def _lays_out(dtype: torch.dtype) -> bool:
    """Whether this machine's torch lays out matrices of a dtype."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
