"""A basis as bytes: the whole of it comes back, and nothing else is read."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mple.morph.basis import Basis
from mple.wire.basis_file import BasisFileError, basis_bytes, basis_of, most_basis_bytes

GOLDEN = bytes.fromhex("4d504231010000000100000002000000020000000000003f7f81abcd")


def basis(cores: int = 3, columns: int = 4, side: int = 5, coding: bytes = b"coding") -> Basis:
    drawn = np.random.default_rng(5)
    codes = drawn.integers(-127, 128, (cores, columns, side)).astype(np.int8)
    return Basis(codes, drawn.uniform(0.001, 1, (cores, columns)).astype(np.float32), coding)


def test_golden_bytes() -> None:
    small = Basis(np.array([[[127, -127]]], np.int8), np.array([[0.5]], np.float32), b"\xab\xcd")
    assert basis_bytes(small) == GOLDEN


def test_a_basis_comes_back() -> None:
    made = basis()
    back = basis_of(data := basis_bytes(made), cores=3, core_side=5)
    assert np.array_equal(back.synthesis_GdQ, made.synthesis_GdQ)
    assert np.array_equal(back.scales_Gd, made.scales_Gd)
    assert back.coding == made.coding
    assert basis_bytes(back) == data
    assert len(data) <= most_basis_bytes(3, 5)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GOLDEN[:-1],
        GOLDEN + b"x",
        b"MPB2" + GOLDEN[4:],
        GOLDEN[:8] + b"\x03" + GOLDEN[9:],
        GOLDEN[:8] + b"\x00" + GOLDEN[9:],
        GOLDEN[:16] + b"\xff\xff\xff\xff" + GOLDEN[20:],
        GOLDEN[:20] + bytes(4) + GOLDEN[24:],
        GOLDEN[:20] + b"\x00\x00\xc0\x7f" + GOLDEN[24:],
    ],
)
def test_what_is_no_basis_is_refused(data: bytes) -> None:
    with pytest.raises(BasisFileError):
        basis_of(data, cores=1, core_side=2)


def test_another_plans_basis_is_refused() -> None:
    with pytest.raises(BasisFileError, match=r"1 cores, 1 x 2, due are 4, 1 to 2 x 2"):
        basis_of(GOLDEN, cores=4, core_side=2)


@given(st.binary(max_size=64))
def test_no_bytes_surprise(tail: bytes) -> None:
    for data in (tail, GOLDEN[:4] + tail, GOLDEN[:20] + tail):
        try:
            assert basis_bytes(basis_of(data, cores=1, core_side=2)) == data
        except BasisFileError:
            continue
