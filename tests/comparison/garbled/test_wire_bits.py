"""Bits of numbers and messages, and the transposed matrix of a transfer extension."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from comparison.garbled.bits import bits_of, blocks_in, columns_of, numbers_of, pack, packed_bytes, unpack


@given(st.lists(st.integers(0, 2**63 - 1), max_size=9))
def test_numbers_come_back_from_their_bits(numbers: list[int]) -> None:
    bits = bits_of(np.array(numbers, np.int64), 63)
    assert bits.shape == (63, len(numbers)) and set(np.unique(bits)) <= {0, 1}
    assert numbers_of(bits).tolist() == numbers


def test_the_lowest_bit_comes_first_and_negative_numbers_wrap() -> None:
    assert bits_of(np.array([6, -1]), 4).tolist() == [[0, 1], [1, 1], [1, 1], [0, 1]]


@given(st.integers(0, 5), st.integers(0, 13))
def test_packed_bits_come_back(rows: int, columns: int) -> None:
    bits = np.random.default_rng(rows * 100 + columns).integers(0, 2, (rows, columns)).astype(np.uint8)
    data = pack(bits)
    assert len(data) == packed_bytes(rows * columns)
    assert (unpack(data, bits.shape, "bits") == bits).all()


def test_a_message_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the letter of 3 bytes, needs 2;"):
        unpack(bytes(3), (16,), "the letter")
    with pytest.raises(ValueError, match=r"the letter of 32 bytes, needs 48;"):
        blocks_in(bytes(32), (3,), "the letter")


@pytest.mark.parametrize("width", [1, 2, 5])
def test_columns_are_the_transposed_rows(width: int) -> None:
    rows = np.random.default_rng(width).integers(0, 256, (128, width)).astype(np.uint8)
    bits = np.unpackbits(rows, axis=1, bitorder="little")
    columns = np.unpackbits(columns_of(rows).view(np.uint8), axis=1, bitorder="little")
    assert (columns == bits.T).all()
