"""Morph keys and the secret streams that they expand to.

A key is a 32-byte seed. Everything drawn from it comes from ChaCha20 (RFC 8439) under a subkey that HKDF-SHA256
(RFC 5869) derives from the seed and a label, so that draws for different sessions, key epochs, blocks or purposes are
independent. The streams are part of the protocol: in escrow custody two machines expand the same seed.
"""

from __future__ import annotations

import hashlib
import secrets

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

SEED_BYTES = 32
_DOMAIN = b"mple/v1/"
_PAIRS_AT_ONCE = 2**15
"""So that what lies between stays near the processor."""


class MorphKey:
    """A site's secret. `repr` and `str` never show the seed."""

    __slots__ = ("_seed",)

    def __init__(self, seed: bytes) -> None:
        """Wrap 32 secret bytes. Raises ValueError: the seed has another length."""
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a morph key has {SEED_BYTES} bytes, this one has {len(seed)}")
        self._seed = bytes(seed)

    @classmethod
    def generate(cls) -> MorphKey:
        """A new key from the operating system's entropy."""
        return cls(secrets.token_bytes(SEED_BYTES))

    @property
    def seed(self) -> bytes:
        """The secret itself, for the vault and for sealing; never log it."""
        return self._seed

    def fingerprint(self) -> bytes:
        """32 public bytes that name the key: SHA-256 under a domain of its own, one-way for a 256-bit seed."""
        return hashlib.sha256(_DOMAIN + b"fingerprint\0" + self._seed).digest()

    def __repr__(self) -> str:
        return f"MorphKey({self.fingerprint().hex()[:8]})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MorphKey) and secrets.compare_digest(self._seed, other._seed)

    def __hash__(self) -> int:
        return hash(self.fingerprint())


def words(secret: bytes, label: bytes, count: int) -> NDArray[np.uint64]:
    """`count` uniform 64-bit words of the stream that `secret` and `label` name; a longer draw extends a shorter."""
    subkey = HKDF(algorithm=SHA256(), length=32, salt=None, info=_DOMAIN + label).derive(secret)
    stream = Cipher(ChaCha20(subkey, bytes(16)), mode=None).encryptor()
    return np.frombuffer(stream.update(bytes(8 * count)), "<u8").astype(np.uint64, copy=False)


def uniforms(secret: bytes, label: bytes, count: int) -> NDArray[np.float64]:
    """`count` values uniform on [0, 1): the upper 53 bits of each word."""
    return _unit(words(secret, label, count))


def _unit(words_: NDArray[np.uint64]) -> NDArray[np.float64]:
    return (words_ >> np.uint64(11)).astype(np.float64) * 2.0**-53


def gaussians(secret: bytes, label: bytes, count: int) -> NDArray[np.float64]:
    """`count` independent standard normal values, by Box and Muller's transform (1958)."""
    drawn = words(secret, label, 2 * (-(-count // 2))).reshape(-1, 2)
    values = np.empty(drawn.shape)
    for low in range(0, len(drawn), _PAIRS_AT_ONCE):
        some = slice(low, low + _PAIRS_AT_ONCE)
        pairs = _unit(drawn[some])
        radius = np.sqrt(-2.0 * np.log1p(-pairs[:, 0]))
        angle = 2.0 * np.pi * pairs[:, 1]
        np.multiply(radius, np.cos(angle), out=values[some, 0])
        np.multiply(radius, np.sin(angle), out=values[some, 1])
    return values.reshape(-1)[:count]


def draw_order(secret: bytes, purpose: str, length: int) -> NDArray[np.int64]:
    """A uniformly random order of `length` things (Fisher-Yates; words are rejected where they would bias it).

    Convention: ``permuted[..., j] = plain[..., order[j]]``.

    Raises ValueError: `length` is below 1.
    """
    if length < 1:
        raise ValueError(f"an order of {length} things; needs 1 or more")
    order = np.arange(length, dtype=np.int64)
    label = b"order\0" + purpose.encode()
    supply = words(secret, label, 4 * length + 64)
    taken = 0
    for last in range(length - 1, 0, -1):
        limit = 2**64 - 2**64 % (last + 1)
        while True:
            if taken == len(supply):
                supply = words(secret, label, 2 * len(supply))
            word = int(supply[taken])
            taken += 1
            if word < limit:
                break
        pick = word % (last + 1)
        order[last], order[pick] = order[pick], order[last]
    return order
