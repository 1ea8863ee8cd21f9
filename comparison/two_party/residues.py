"""Residues on their way and from the system's randomness: masks and shares that say nothing about what they hide."""

import secrets

import numpy as np
from numpy.typing import NDArray

RESIDUE_BYTES = 4


def draw_residues(shape: tuple[int, ...], modulus: int) -> NDArray[np.int64]:
    """Independent residues, each equally likely; int64 in [0, modulus).

    Args:
        shape: Of the result.
        modulus: Below 2^32.
    """
    count = int(np.prod(shape))
    bound = (1 << 32) // modulus * modulus  # words from there on would make small residues likelier
    drawn = np.empty(0, np.int64)
    while len(drawn) < count:
        words = np.frombuffer(secrets.token_bytes(RESIDUE_BYTES * (count - len(drawn) + 16)), "<u4")
        drawn = np.concatenate([drawn, words[words < bound].astype(np.int64)])
    return (drawn[:count] % modulus).reshape(shape)


def to_bytes(residues: NDArray[np.int64]) -> bytes:
    """Four bytes a residue, little-endian."""
    return residues.astype("<u4").tobytes()


def from_bytes(data: bytes, shape: tuple[int, ...], modulus: int) -> NDArray[np.int64]:
    """What `to_bytes` wrote. Raises ValueError: another length, or a number that is no residue."""
    due = RESIDUE_BYTES * int(np.prod(shape))
    if len(data) != due:
        raise ValueError(f"{len(data)} bytes of residues instead of {due}")
    residues = np.frombuffer(data, "<u4").astype(np.int64).reshape(shape)
    if residues.size and int(residues.max()) >= modulus:
        raise ValueError(f"{int(residues.max())} is no residue modulo {modulus}")
    return residues


def centred(residues: NDArray[np.int64], modulus: int) -> NDArray[np.int64]:
    """The signed integers behind residues, in (-modulus / 2, modulus / 2)."""
    return np.where(residues > modulus // 2, residues - modulus, residues)
