"""Coefficients as bytes, seeds, and draws."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from comparison.lattice import draw_residues
from comparison.lattice.coefficients import draw_errors, expand_seed, pack, unpack

PRIMES = (68_719_230_977, 68_719_403_009)


@given(bits=st.integers(1, 63), groups=st.integers(1, 5), seed=st.integers(0, 2**32))
def test_packed_coefficients_come_back(bits: int, groups: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 2**bits, 64 * groups, dtype=np.uint64)
    packed = pack(values, bits)
    assert len(packed) == 8 * bits * groups
    assert np.array_equal(unpack(packed, bits), values)


def test_bytes_are_one_number_least_significant_first() -> None:
    values = np.arange(1, 65, dtype=np.uint64) * np.uint64(1_000_003_001)
    number = sum(int(value) << 36 * place for place, value in enumerate(values))
    assert pack(values, 36) == number.to_bytes(64 * 36 // 8, "little")


def test_a_seed_expands_to_uniform_residues_of_each_prime() -> None:
    expanded = expand_seed(bytes(32), PRIMES, 4096)
    stream = np.frombuffer(hashlib.shake_128(bytes(33)).digest(80), "<u8") & np.uint64(2**36 - 1)
    assert np.array_equal(expanded[:10], stream)
    for part, prime in zip(expanded.reshape(2, -1), PRIMES, strict=True):
        assert part.max() < prime
        assert abs(part.mean() / prime - 0.5) < 0.03
    assert not np.array_equal(expanded, expand_seed(b"\1" + bytes(31), PRIMES, 4096))


def test_a_seed_rejects_what_is_not_below_the_prime() -> None:
    expanded = expand_seed(bytes(32), (2**35 + 53,), 4096)  # half of the draws are too large
    assert len(expanded) == 4096
    assert expanded.max() < 2**35 + 53


def test_errors_are_small_and_centred() -> None:
    errors = draw_errors(100_000)
    assert abs(errors).max() <= 21
    assert abs(errors.mean()) < 0.1
    assert errors.std() == pytest.approx(10.5**0.5, rel=0.03)


@pytest.mark.parametrize("modulus", [2, 3, 2_056_193, 2**21, 2**40 + 1])
def test_residues_are_uniform_below_the_modulus(modulus: int) -> None:
    residues = draw_residues((100, 1000), modulus)
    assert residues.dtype == np.int64
    assert residues.shape == (100, 1000)
    assert 0 <= residues.min() <= residues.max() < modulus
    assert residues.mean() == pytest.approx((modulus - 1) / 2, rel=0.03)
