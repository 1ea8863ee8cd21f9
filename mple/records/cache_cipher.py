"""The cipher of the compute node's cache: every sample is sealed by itself, so that one can be read without others.

A file begins with 36 bytes: "MPC3", a salt of 16, a proof of 16. HKDF-SHA256 makes of the node's secret and the salt
the file's key and the proof, by which another secret is told from damage. What is sealed is AES-256-GCM: as many bytes
as before, then a tag of 16. A record draws one nonce of 12 bytes; what it seals is numbered, and the number is added to
the nonce's last four bytes. So whoever knows a sample's nonce has that sample of that record, or nothing.

Legend: B samples, S bytes of one sample.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from mple.disk.damage import DamagedError
from mple.exit_codes import ExitCode, ExitError

TAG_BYTES, NONCE_BYTES = 16, 12
_MAGIC = b"MPC3"
_SALT_BYTES = _PROOF_BYTES = 16
HEAD_BYTES = len(_MAGIC) + _SALT_BYTES + _PROOF_BYTES
_DOMAIN = b"mple/v1/cache"
_COUNTER = struct.Struct(">I")


class CacheError(DamagedError):
    """The cache file belongs to another plan or can't be used; its node stops, and no run ends by it."""

    def __init__(self, text: str, fix: str = "remove it and start again: the samples are asked anew") -> None:
        """Say what is wrong in a sentence that names the file."""
        ExitError.__init__(self, text, ExitCode.DAMAGED, fix)


class CacheCipher:
    """Seals and opens what one file holds. Threads may use it at the same time.

    Guarantees: what `opened` returns was sealed under that nonce by somebody with the secret. Not promised: that a file
    is the newest one, or that its size does not tell how many samples it holds.
    """

    def __init__(self, secret: bytes, salt: bytes | None = None) -> None:
        """For a new file, or for one with this salt."""
        salt = secrets.token_bytes(_SALT_BYTES) if salt is None else salt
        derived = HKDF(SHA256(), length=32 + _PROOF_BYTES, salt=salt, info=_DOMAIN).derive(secret)
        self._aead = AESGCM(derived[:32])
        self.head = _MAGIC + salt + derived[32:]
        """The first bytes of the file; no secret."""

    @classmethod
    def of(cls, secret: bytes, head: bytes, path: Path) -> CacheCipher:
        """For a file that begins with `head`. Raises CacheError: it is no cache, or one under another secret."""
        if len(head) != HEAD_BYTES or not head.startswith(_MAGIC):
            raise CacheError(f"{path} is damaged at byte 0")
        cipher = cls(secret, head[len(_MAGIC) : len(_MAGIC) + _SALT_BYTES])
        if not secrets.compare_digest(cipher.head, head):
            raise CacheError(
                f"{path} does not open with the key in the node's vault: it is encrypted under another, or its first "
                f"{HEAD_BYTES} bytes are damaged",
                "put the vault's cache.key back that it was written with, or remove the file: the samples are asked "
                "anew",
            )
        return cipher

    @staticmethod
    def begun(head: bytes) -> bool:
        """Whether these are the bytes of a file whose writer died within its head."""
        return len(head) < HEAD_BYTES and head[: len(_MAGIC)] == _MAGIC[: len(head)]

    def sealed(self, nonce: bytes, content: bytes | memoryview, bound: bytes | None = None) -> bytes:
        """Sealed content; it opens only together with the bytes that are `bound` to it."""
        return self._aead.encrypt(nonce, content, bound)

    def opened(self, nonce: bytes, sealed: bytes | memoryview, bound: bytes | None = None) -> bytes | None:
        """The content, None where it was not sealed so: damaged, moved, or under another secret."""
        try:
            return self._aead.decrypt(nonce, sealed, bound)
        except InvalidTag:
            return None

    def sealed_rows(self, nonces: Iterable[bytes], rows_BS: NDArray[np.uint8]) -> list[bytes]:
        """Each row by itself."""
        size, content = rows_BS.shape[1], np.ascontiguousarray(rows_BS).data.cast("B")
        rows = (content[at : at + size] for at in range(0, rows_BS.size, size))
        return [self._aead.encrypt(nonce, row, None) for nonce, row in zip(nonces, rows, strict=True)]


def new_nonce() -> bytes:
    """Of a record, drawn."""
    return secrets.token_bytes(NONCE_BYTES)


def numbered(nonce: bytes, count: int) -> Iterator[bytes]:
    """The nonces of what a record seals."""
    (first,), fixed = _COUNTER.unpack_from(nonce, NONCE_BYTES - _COUNTER.size), nonce[: -_COUNTER.size]
    for number in range(first, first + count):
        yield fixed + _COUNTER.pack(number & 0xFFFFFFFF)
