"""Residues and packed bytes as rows of bits, and 128-row bit matrices as blocks; vectorised.

Legend: bits are uint8 of 0 and 1, (wires, I) with little-endian numbers down the wires; I instances.
"""

import numpy as np
from numpy.typing import NDArray

from comparison.garbled.cipher import BLOCK_BYTES, Blocks, Buffer

Bits = NDArray[np.uint8]
_SWAPS = ((7, 0x00AA00AA00AA00AA), (14, 0x0000CCCC0000CCCC), (28, 0x00000000F0F0F0F0))
"""Distances and masks of the three exchanges that transpose 8 x 8 bits within 64."""


def bits_of(numbers_I: NDArray[np.int64], width: int) -> Bits:
    """The lowest `width` bits of numbers, (width, I)."""
    return np.stack([(numbers_I >> place & 1).astype(np.uint8) for place in range(width)])


def numbers_of(bits_WI: Bits) -> NDArray[np.int64]:
    """The numbers that `bits_of` took apart; at most 63 bits."""
    numbers_I = np.zeros(bits_WI.shape[1], np.int64)
    for place, row_I in enumerate(bits_WI):
        numbers_I |= row_I.astype(np.int64) << place
    return numbers_I


def pack(bits: Bits) -> bytes:
    """Bits in row order, eight a byte, the last byte filled with zeros."""
    return np.packbits(bits.ravel(), bitorder="little").tobytes()


def unpack(data: Buffer, shape: tuple[int, ...], what: str) -> Bits:
    """Bits of a shape from a message.

    Args:
        data: As `pack` made it.
        shape: Of the result.
        what: The name of the message in errors.

    Raises ValueError: the message has another length.
    """
    count = int(np.prod(shape))
    check_length(data, packed_bytes(count), what)
    return np.unpackbits(np.frombuffer(data, np.uint8), count=count, bitorder="little").reshape(shape)


def packed_bytes(count: int) -> int:
    """Length of so many packed bits."""
    return (count + 7) // 8


def blocks_in(data: Buffer, shape: tuple[int, ...], what: str) -> Blocks:
    """Blocks of a message, (*shape, 2), without a copy. Raises ValueError: the message has another length."""
    check_length(data, int(np.prod(shape)) * BLOCK_BYTES, what)
    return np.frombuffer(data, "<u8").reshape(*shape, 2)


def check_length(data: Buffer, needed: int, what: str) -> None:
    """Refuse a message of a wrong length. Raises ValueError: it has one."""
    found = memoryview(data).nbytes
    if found != needed:
        raise ValueError(f"{what} of {found} bytes, needs {needed}; both sides must count the same instances")


def columns_of(rows: NDArray[np.uint8]) -> Blocks:
    """Transpose 128 rows of packed bits: bit j of row i becomes bit i of block j.

    Args:
        rows: (128, bytes).

    Returns:
        (8 * bytes, 2).
    """
    width = rows.shape[1]
    eights = np.ascontiguousarray(rows.reshape(16, 8, width).transpose(2, 0, 1)).view("<u8")[..., 0]
    for distance, mask in _SWAPS:
        moved = (eights ^ (eights >> np.uint64(distance))) & np.uint64(mask)
        eights ^= moved
        eights ^= moved << np.uint64(distance)
    by_bit = eights.view(np.uint8).reshape(width, 16, 8).transpose(0, 2, 1)
    return np.ascontiguousarray(by_bit).view("<u8").reshape(-1, 2)
