"""Plaintext moduli, what is refused, and sizes on paper."""

from __future__ import annotations

import pytest

from comparison.lattice import LatticeParameters, batching_prime


@pytest.mark.parametrize(("bits", "prime"), [(20, 1_032_193), (21, 2_056_193), (22, 4_169_729)])
def test_the_largest_prime_of_a_length_with_slots(bits: int, prime: int) -> None:
    assert batching_prime(bits, 4096) == prime
    assert LatticeParameters.with_bits(bits).plain_modulus == prime


@pytest.mark.parametrize("bits", [15, 31, 0, -1])
def test_a_modulus_out_of_range_is_refused(bits: int) -> None:
    with pytest.raises(ValueError, match="allowed are 16 to 30"):
        LatticeParameters.with_bits(bits)


@pytest.mark.parametrize("modulus", [2_056_194, 2_097_143, 8193 * 8193, 40_961 * 40_961])
def test_a_modulus_without_slots_is_refused(modulus: int) -> None:
    with pytest.raises(ValueError, match="plain_modulus"):
        LatticeParameters(plain_modulus=modulus)


def test_primes_beyond_128_bits_of_security_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 109 bits"):
        LatticeParameters(plain_modulus=2_056_193, coefficient_bits=(37, 36, 37))
    with pytest.raises(ValueError, match="degree is 2048"):
        LatticeParameters.with_bits(21, 2048)


def test_a_ciphertexts_bytes() -> None:
    parameters = LatticeParameters.with_bits(21)
    assert parameters.upload_ciphertext_bytes == 32 + 4096 * (36 + 36) // 8 == 36_896
    assert parameters.download_ciphertext_bytes == 2 * 4096 * 36 // 8 == 36_864
