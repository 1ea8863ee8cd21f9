"""Coefficients of ciphertexts as bytes, and the randomness that the two parties draw. No I/O but the system's entropy.

A coefficient modulo a prime of b bits takes b bits, not the 64 that SEAL saves; the uniform polynomial of a fresh
ciphertext travels as the seed that both sides expand.

Legend: V coefficients of one or more polynomials modulo one prime.
"""

import hashlib
import math
import secrets

import numpy as np
from numpy.typing import NDArray

_WORD_BITS = 64
_ERROR_PAIRS = 21
"""The error of a fresh coefficient is a centred binomial of 21 pairs of bits: standard deviation 3.24, as in SEAL."""


def pack(coefficients_V: NDArray[np.uint64], bits: int) -> bytes:
    """Coefficients below 2^bits, `bits` each, least significant first; their number is a multiple of 64."""
    per_group, words_a_group = _group(bits)
    values = coefficients_V.reshape(-1, per_group)
    words: NDArray[np.uint64] = np.zeros((len(values), words_a_group), np.uint64)
    for place in range(per_group):
        word, shift = divmod(place * bits, _WORD_BITS)
        words[:, word] |= values[:, place] << np.uint64(shift)
        if shift + bits > _WORD_BITS:
            words[:, word + 1] |= values[:, place] >> np.uint64(_WORD_BITS - shift)
    return words.astype("<u8", copy=False).tobytes()


def unpack(packed: bytes | memoryview, bits: int) -> NDArray[np.uint64]:
    """What `pack` packed. Guarantees: all are below 2^bits; nothing says that they are below the prime."""
    per_group, words_a_group = _group(bits)
    words = np.frombuffer(packed, "<u8").astype(np.uint64, copy=False).reshape(-1, words_a_group)
    values: NDArray[np.uint64] = np.empty((len(words), per_group), np.uint64)
    for place in range(per_group):
        word, shift = divmod(place * bits, _WORD_BITS)
        column = words[:, word] >> np.uint64(shift)
        if shift + bits > _WORD_BITS:
            column = column | words[:, word + 1] << np.uint64(_WORD_BITS - shift)
        values[:, place] = column
    values &= np.uint64((1 << bits) - 1)
    return values.reshape(-1)


def _group(bits: int) -> tuple[int, int]:
    """How many coefficients fill how many words without a rest."""
    common = math.gcd(bits, _WORD_BITS)
    return _WORD_BITS // common, bits // common


def expand_seed(seed: bytes, primes: tuple[int, ...], count: int) -> NDArray[np.uint64]:
    """Uniform residues of each prime, `count` each, one prime after another: SHAKE-128 of the seed with rejection."""
    return np.concatenate([_expanded(seed + bytes([place]), prime, count) for place, prime in enumerate(primes)])


def _expanded(seed: bytes, prime: int, count: int) -> NDArray[np.uint64]:
    mask = np.uint64((1 << prime.bit_length()) - 1)
    words = count + 64
    while True:
        drawn = np.frombuffer(hashlib.shake_128(seed).digest(8 * words), "<u8") & mask
        kept = drawn[drawn < prime]
        if len(kept) >= count:
            return kept[:count].astype(np.uint64, copy=False)
        words *= 2


def draw_errors(count: int) -> NDArray[np.int64]:
    """Small secret errors, centred binomial."""
    bits = np.frombuffer(secrets.token_bytes(8 * count), np.uint64)
    mask = np.uint64((1 << _ERROR_PAIRS) - 1)
    plus, minus = np.bitwise_count(bits & mask), np.bitwise_count(bits >> np.uint64(_ERROR_PAIRS) & mask)
    errors: NDArray[np.int64] = plus.astype(np.int64) - minus.astype(np.int64)
    return errors


def draw_residues(shape: tuple[int, ...], modulus: int) -> NDArray[np.int64]:
    """Residues of a modulus below 2^63, uniform and secret: int64 in [0, modulus)."""
    count = math.prod(shape)
    mask = np.uint64((1 << modulus.bit_length()) - 1)
    found: NDArray[np.int64] = np.empty(count, np.int64)
    filled = 0
    while filled < count:
        drawn = np.frombuffer(secrets.token_bytes(8 * (count - filled) * 2), np.uint64) & mask
        kept = drawn[drawn < modulus][: count - filled]
        found[filled : filled + len(kept)] = kept
        filled += len(kept)
    return found.reshape(shape)
