"""The two ends of the lattice scheme, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from comparison.lattice import ClientLattice, LatticeError, LatticeParameters, ServerLattice, draw_residues
from comparison.lattice.parameters import SEED_BYTES


def slots(parameters: LatticeParameters, rows: int = 2) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return draw_residues((rows, parameters.degree), parameters.plain_modulus)


@pytest.mark.parametrize(("bits", "degree"), [(20, 4096), (22, 4096), (21, 8192)])
def test_slots_come_back_with_the_servers_added(bits: int, degree: int) -> None:
    parameters = LatticeParameters.with_bits(bits, degree)
    client = ClientLattice(parameters)
    server = ServerLattice(parameters, client.public_bytes())
    x_KN, mask_KN = slots(parameters), slots(parameters)
    upload = client.encrypt(x_KN)
    assert len(upload) == 2 * parameters.upload_ciphertext_bytes
    download = server.results(server.load(upload), mask_KN)
    assert len(download) == 2 * parameters.download_ciphertext_bytes
    assert np.array_equal(client.decrypt(download), (x_KN + mask_KN) % parameters.plain_modulus)


def test_rows_rotate_to_the_left_and_swap(parameters: LatticeParameters, client: ClientLattice) -> None:
    public = client.public_bytes([0, 1, 2047])
    assert len(public) == parameters.public_bytes(3)
    server = ServerLattice(parameters, public)
    x_KN = slots(parameters, 1)
    (ciphertext,) = server.load(client.encrypt(x_KN))
    rows_RS = x_KN.reshape(2, -1)
    for step, expected in [(0, rows_RS[::-1]), (1, np.roll(rows_RS, -1, 1)), (2047, np.roll(rows_RS, 1, 1))]:
        found = client.decrypt(server.results([server.rotated(ciphertext, step)], np.zeros_like(x_KN)))
        assert np.array_equal(found.reshape(2, -1), expected)


def test_flooding_leaves_one_bit(parameters: LatticeParameters, client: ClientLattice) -> None:
    public, x_KN = client.public_bytes(), slots(parameters)
    upload = client.encrypt(x_KN)
    budgets = {}
    for flooded in (False, True):
        server = ServerLattice(parameters, public, flooded=flooded)
        budgets[flooded] = client.budget(server.results(server.load(upload), np.zeros_like(x_KN)))
    assert budgets[True] == 1
    assert budgets[False] >= 7


def test_equal_slots_give_different_bytes(parameters: LatticeParameters, client: ClientLattice) -> None:
    x_KN = np.zeros((2, parameters.degree), np.int64)
    upload = client.encrypt(x_KN)
    first, second = upload[: len(upload) // 2], upload[len(upload) // 2 :]
    assert first[:SEED_BYTES] != second[:SEED_BYTES]
    assert first[SEED_BYTES:] != second[SEED_BYTES:]
    server = ServerLattice(parameters, client.public_bytes())
    assert server.results(server.load(first), x_KN[:1]) != server.results(server.load(first), x_KN[:1])


def test_nobody_else_can_decrypt(parameters: LatticeParameters, client: ClientLattice) -> None:
    server = ServerLattice(parameters, client.public_bytes())
    x_KN = np.zeros((1, parameters.degree), np.int64)
    download = server.results(server.load(client.encrypt(x_KN)), x_KN)
    stranger = ClientLattice(parameters)
    assert (stranger.decrypt(download) == 0).mean() < 0.01
    assert stranger.budget(download) == 0


def test_no_term_stands_for_zero(parameters: LatticeParameters, client: ClientLattice) -> None:
    server = ServerLattice(parameters, client.public_bytes())
    assert server.sum_of_products([]) is None
    mask_KN = slots(parameters, 1)
    assert np.array_equal(client.decrypt(server.results([None], mask_KN)), mask_KN)


def test_bytes_that_are_no_ciphertexts_are_refused(parameters: LatticeParameters, client: ClientLattice) -> None:
    server = ServerLattice(parameters, client.public_bytes())
    upload = client.encrypt(slots(parameters, 1))
    with pytest.raises(LatticeError, match="no whole number"):
        server.load(upload[:-1])
    with pytest.raises(LatticeError, match="no coefficients"):
        server.load(b"\xff" * len(upload))
    with pytest.raises(LatticeError, match="no whole number"):
        client.decrypt(b"\0")
    with pytest.raises(LatticeError, match="no coefficients"):
        client.decrypt(b"\xff" * parameters.download_ciphertext_bytes)


def test_bytes_that_are_no_keys_are_refused(parameters: LatticeParameters, client: ClientLattice) -> None:
    public = client.public_bytes([1])
    for bad in (b"", public[:1000], public[:-1], public + b"\0", b"\0" * len(public)):
        with pytest.raises(LatticeError, match="public key"):
            ServerLattice(parameters, bad)
    with pytest.raises(LatticeError, match="public key"):
        ServerLattice(LatticeParameters.with_bits(21, 8192), public)


def test_a_rotation_without_its_key_is_refused(parameters: LatticeParameters, client: ClientLattice) -> None:
    (ciphertext,) = ServerLattice(parameters, client.public_bytes()).load(client.encrypt(slots(parameters, 1)))
    with pytest.raises(LatticeError, match="no rotation keys"):
        ServerLattice(parameters, client.public_bytes()).rotated(ciphertext, 1)
    with pytest.raises(LatticeError, match="rotation step 4"):
        ServerLattice(parameters, client.public_bytes([1])).rotated(ciphertext, 4)
