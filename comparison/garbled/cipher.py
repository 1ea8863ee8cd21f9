"""A fixed-key AES permutation, the tweaked hash made of it, and AES in counter mode as the generator.

Garbling and evaluating spend their time here, so thousands of blocks go through one call of the cipher.

The hash is TMMO of Guo, Katz, Wang and Yu, "Efficient and Secure Multiparty Computation from Fixed-Key Block Ciphers"
(IEEE S&P 2020): H(x, i) = pi(pi(x) ^ i) ^ pi(x). With pi an ideal permutation it is tweakable circular correlation
robust, which is what half-gates need. It costs two calls of the cipher a block; pi(2x ^ i) ^ 2x ^ i, which is in use
too, costs one and is not robust in that sense: two pairs (x, i) can give one value. As with every fixed key, the margin
falls with the number q of blocks that are hashed under one difference; an attack takes about 2**128 / q calls of the
cipher (Guo, Katz, Wang, Weng and Yu, CRYPTO 2020), so about 2**100 for one inference of a large network.

Legend: a block is 16 bytes, kept as two little-endian uint64 in the last axis (..., 2).
"""

import secrets

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

BLOCK_BYTES = 16
FIXED_KEY = bytes(range(BLOCK_BYTES))
"""The example key of FIPS 197; any constant does, and this one has published results to test with."""
Blocks = NDArray[np.uint64]
Buffer = bytes | bytearray | memoryview
_SLACK = BLOCK_BYTES - 1
"""Bytes that the cipher library wants behind the result; it doesn't write there."""


class TweakedHash:
    """H for arrays of one shape, with its scratch; not to be shared between threads.

    Args:
        shape: Of the arrays of blocks, without the last axis of 2.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._permutation = Cipher(algorithms.AES(FIXED_KEY), modes.ECB()).encryptor()  # noqa: S305 (one block each)
        size = int(np.prod(shape)) * BLOCK_BYTES
        self._once, self._twice = (np.empty(size + _SLACK, np.uint8) for _ in range(2))
        self._once_blocks = self._once[:size].view(np.uint64).reshape(*shape, 2)
        self._twice_blocks = self._twice[:size].view(np.uint64).reshape(*shape, 2)
        self._tweaked = np.empty_like(self._once_blocks)

    def __call__(self, blocks: Blocks, tweaks: Blocks) -> Blocks:
        """H of every block under its tweak.

        Args:
            blocks: (*shape, 2), contiguous.
            tweaks: Broadcast against the blocks.

        Returns:
            (*shape, 2), overwritten by the next call.
        """
        self._permutation.update_into(bytes_of(blocks), self._once.data)
        np.bitwise_xor(self._once_blocks, tweaks, out=self._tweaked)
        self._permutation.update_into(bytes_of(self._tweaked), self._twice.data)
        return np.bitwise_xor(self._twice_blocks, self._once_blocks, out=self._twice_blocks)


class Keystream:
    """The stream of AES-128 in counter mode from a secret seed; successive calls never repeat a piece of it."""

    def __init__(self, seed: bytes) -> None:
        self._encryptor = Cipher(algorithms.AES(seed), modes.CTR(bytes(BLOCK_BYTES))).encryptor()

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        return self._encryptor.update(bytes(size))


def expand_blocks(seed: bytes, shape: tuple[int, ...]) -> Blocks:
    """Pseudorandom blocks of a seed, (*shape, 2)."""
    stream = Keystream(seed).take(int(np.prod(shape)) * BLOCK_BYTES)
    return np.frombuffer(stream, "<u8").reshape(*shape, 2)


def draw_blocks(shape: tuple[int, ...]) -> Blocks:
    """Secret blocks, (*shape, 2), expanded from a seed that is drawn and forgotten."""
    return expand_blocks(secrets.token_bytes(BLOCK_BYTES), shape)


def bytes_of(array: NDArray[np.generic]) -> memoryview:
    """The bytes of a contiguous array, not copied."""
    return array.reshape(-1).view(np.uint8).data
