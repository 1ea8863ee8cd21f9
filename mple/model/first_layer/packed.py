"""What a processor does faster than torch's own products: oneDNN's, by matrices that are laid out once for it.

oneDNN multiplies by a matrix in blocks of its own; given a plain one it cuts the blocks anew in every product, which
for few rows takes longer than the product. Nothing else calls these operations, which torch does not promise to keep.

Legend: R rows of a product, I inputs, O outputs.
"""

import torch
from torch import Tensor

ZERO_POINT = 128
"""Rows travel as unsigned bytes: the instructions multiply unsigned by signed ones."""


def lays_out(dtype: torch.dtype) -> bool:
    """Whether this processor's torch lays out matrices of a dtype."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def laid_out(matrix_OI: Tensor, rows: int) -> Tensor:
    """A matrix for `product`; about how many rows it will have says `rows`, others are right and may be slower."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(matrix_OI, rows)
    return packed


def product(x_RI: Tensor, packed: Tensor) -> Tensor:
    """x·W in x's dtype; sums are made in float32."""
    y_RO: Tensor = torch.ops.mkldnn._linear_pointwise(x_RI, packed, None, "none", [], "")
    return y_RO


def multiplies_bytes() -> bool:
    """Whether this processor has VNNI: its forerunners overflow."""
    return bool(torch.cpu._is_vnni_supported())


def laid_out_bytes(codes_IO: Tensor, rows: int) -> Tensor:
    """A matrix of int8 for `byte_product`."""
    packed: Tensor = torch.ops.onednn.qlinear_prepack(codes_IO.t().contiguous(), [rows, len(codes_IO)])
    return packed


def byte_product(codes_RI: Tensor, packed: Tensor, scale_O: Tensor) -> Tensor:
    """(codes - ZERO_POINT)·W with a factor for each column, in bfloat16; codes are uint8, sums 32-bit integers."""
    zero_O = torch.zeros(len(scale_O), dtype=torch.int64)
    y_RO: Tensor = torch.ops.onednn.qlinear_pointwise(
        codes_RI, 1.0, ZERO_POINT, packed, scale_O, zero_O,
        None, 1.0, 0, torch.bfloat16, "none", [], "",
    )  # fmt: skip
    return y_RO
