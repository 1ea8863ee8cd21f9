"""The permutation and the generator against published vectors, the hash against its formula."""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from comparison.garbled.cipher import FIXED_KEY, Keystream, TweakedHash, draw_blocks, expand_blocks


def aes(block: bytes, key: bytes = FIXED_KEY) -> bytes:
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(block)


def xor(one: bytes, other: bytes) -> bytes:
    return bytes(left ^ right for left, right in zip(one, other, strict=True))


def test_the_permutation_is_that_of_fips_197() -> None:
    """FIPS 197, appendix C.1, whose key is our fixed one: H(x, pi(x)) = pi(0) ^ pi(x) shows pi."""
    plain = bytes.fromhex("00112233445566778899aabbccddeeff")
    permuted = bytes.fromhex("69c4e0d86a7b0430d8cdb78070b4c55a")
    blocks, tweaks = (np.frombuffer(data, "<u8").reshape(1, 2).copy() for data in (plain, permuted))
    assert TweakedHash((1,))(blocks, tweaks).tobytes() == xor(aes(bytes(16)), permuted)


def test_the_hash_of_many_blocks_is_the_formula_on_each() -> None:
    blocks, tweaks = draw_blocks((3, 5)).copy(), draw_blocks((3, 5))
    hashed = TweakedHash((3, 5))(blocks, tweaks)
    for place in np.ndindex(3, 5):
        once = aes(blocks[place].tobytes())
        assert hashed[place].tobytes() == xor(aes(xor(once, tweaks[place].tobytes())), once)


def test_a_tweak_for_many_blocks_is_broadcast() -> None:
    blocks, tweaks = draw_blocks((2, 3)).copy(), draw_blocks((3,))
    hashed = TweakedHash((2, 3))(blocks, tweaks).copy()
    assert (hashed == TweakedHash((2, 3))(blocks, np.stack([tweaks, tweaks]))).all()


def test_the_generator_is_aes_of_a_counter() -> None:
    """The SP 800-38A key; its counter mode is AES of successive counters."""
    key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    whole = b"".join(aes(counter.to_bytes(16, "big"), key) for counter in range(4))
    stream = Keystream(key)
    assert stream.take(5) + stream.take(0) + stream.take(59) == whole
    assert expand_blocks(key, (2, 2)).tobytes() == whole


def test_drawn_blocks_differ() -> None:
    assert len({block.tobytes() for block in draw_blocks((100,))}) == 100
    assert (draw_blocks((100,)) != draw_blocks((100,))).all()
