"""One client for all tests of the lattice: keys take time."""

from __future__ import annotations

import pytest

from comparison.lattice import ClientLattice, LatticeParameters


@pytest.fixture(scope="session")
def parameters() -> LatticeParameters:
    return LatticeParameters.with_bits(21)


@pytest.fixture(scope="session")
def client(parameters: LatticeParameters) -> ClientLattice:
    return ClientLattice(parameters)
