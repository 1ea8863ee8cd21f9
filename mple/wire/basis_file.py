"""A key's basis as bytes: what a site keeps and, in escrow custody, sends to the compute node. All is little-endian:

    "MPB1", cores G, columns d, core side Q, bytes of the coding u32[4], scales f32[G·d], codes i8[G·d·Q], coding

The coding is looked into where it is used, see `mple.wire.coding`.
"""

import struct

import numpy as np

from mple.morph.basis import Basis

_MAGIC = b"MPB1"
_HEADER = struct.Struct("<4s4I")


class BasisFileError(ValueError):
    """Bytes that are no basis of the plan's sizes."""


def basis_bytes(basis: Basis) -> bytes:
    """All of a basis."""
    header = _HEADER.pack(_MAGIC, basis.cores, basis.columns, basis.core_side, len(basis.coding))
    return b"".join([header, basis.scales_Gd.astype("<f4").tobytes(), basis.synthesis_GdQ.tobytes(), basis.coding])


def most_basis_bytes(cores: int, core_side: int) -> int:
    """How long a basis may be."""
    return _HEADER.size + 4 * cores * core_side + cores * core_side**2 + most_coding_bytes(cores, core_side)


def most_coding_bytes(cores: int, core_side: int) -> int:
    """How long a coding may be, in a basis or a layer."""
    return 4096 + 16 * cores * core_side


def basis_of(data: bytes, *, cores: int, core_side: int) -> Basis:
    """Read a basis back; bytes from the wire are not trusted.

    Raises BasisFileError: these are no bytes of a basis for so many cores of this side, or a scale is not above 0.
    """
    if len(data) < _HEADER.size:
        raise BasisFileError(f"{len(data)} bytes are no basis")
    magic, had, columns, side, coding = _HEADER.unpack_from(data)
    if magic != _MAGIC or (had, side) != (cores, core_side) or not 1 <= columns <= side:
        raise BasisFileError(
            f"a basis of {had} cores, {columns} x {side}, due are {cores}, 1 to {core_side} x {core_side}"
        )
    scales = _HEADER.size
    codes = scales + 4 * cores * columns
    end = codes + cores * columns * side
    if coding > most_coding_bytes(cores, core_side) or len(data) != end + coding:
        raise BasisFileError(f"{len(data)} bytes of a basis, {end} and its coding of {coding} are due")
    shape = (cores, columns, side)
    try:
        return Basis(
            np.frombuffer(data, np.int8, cores * columns * side, codes).reshape(shape).copy(),
            np.frombuffer(data, "<f4", cores * columns, scales).astype(np.float32).reshape(shape[:2]),
            data[end:],
        )
    except ValueError as fault:
        raise BasisFileError(str(fault)) from None
