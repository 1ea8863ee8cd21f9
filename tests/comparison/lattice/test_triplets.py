"""MiniONN's triplets under encryption, against the integers."""

from __future__ import annotations

import numpy as np
import pytest

from comparison.lattice import (
    ClientLattice,
    ConvolutionShape,
    LatticeError,
    LatticeParameters,
    ServerLattice,
    TripletConvolution,
)
from tests.support.plain_convolution import convolved, drawn_maps, drawn_weights


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize(
    "numbers",
    [(3, 8, 3, 32), (5, 3, 3, 16), (40, 16, 1, 8), (33, 5, 5, 8), (64, 70, 3, 4), (30, 30, 3, 2), (1, 1, 3, 4),
     (512, 10, 1, 1), (5000, 3, 1, 1), (2, 5000, 1, 1), (20, 10, 3, 1)],
)  # fmt: skip
def test_shares_of_the_product(
    numbers: tuple[int, int, int, int], keep: bool, parameters: LatticeParameters, client: ClientLattice
) -> None:
    inputs, outputs, kernel, side = numbers
    shape, t = ConvolutionShape(inputs=inputs, outputs=outputs, kernel=kernel, side=side), parameters.plain_modulus
    layer, weights = TripletConvolution(shape, parameters), drawn_weights(shape, 1)
    assert layer.inputs_together * layer.outputs_together * shape.pixels <= parameters.degree
    server = ServerLattice(parameters, client.public_bytes())
    prepared = layer.prepare(server, weights, keep=keep)
    for seed in (3, 4):
        rho = drawn_maps(inputs, side, t, seed)
        upload = layer.encrypt(client, rho)
        download, theirs = prepared.apply(upload)
        assert (len(upload), len(download)) == (layer.expected_upload_bytes, layer.expected_download_bytes)
        mine = layer.decrypt(client, download)
        for share in (mine, theirs):
            assert 0 <= share.min() <= share.max() < t
        assert np.array_equal((mine + theirs) % t, convolved(rho, weights) % t)


@pytest.mark.parametrize("bits", [20, 21, 22])
def test_the_largest_sums_decrypt_with_budget_to_spare(bits: int) -> None:
    parameters = LatticeParameters.with_bits(bits)
    client, t = ClientLattice(parameters), parameters.plain_modulus
    shape = ConvolutionShape(inputs=512, outputs=32, kernel=3, side=2)
    layer, weights = TripletConvolution(shape, parameters), drawn_weights(shape, 1)
    prepared = layer.prepare(ServerLattice(parameters, client.public_bytes(), flooded=False), weights, keep=False)
    rho = drawn_maps(512, 2, t, 3)
    download, theirs = prepared.apply(layer.encrypt(client, rho))
    assert client.budget(download) >= 5
    assert np.array_equal((layer.decrypt(client, download) + theirs) % t, convolved(rho, weights) % t)


def test_messages_are_the_shortest(parameters: LatticeParameters) -> None:
    """64 to 64 channels at side 32: four maps fill a ciphertext, so d inputs of 576 by 4 / d outputs of 64."""
    layer = TripletConvolution(ConvolutionShape(inputs=64, outputs=64, kernel=3, side=32), parameters)
    ciphertexts = {d: -(-576 // d) + -(-64 // (4 // d)) for d in (1, 2, 3, 4)}
    assert layer.upload_ciphertexts + layer.download_ciphertexts == min(ciphertexts.values()) == 208


def test_every_call_has_fresh_masks(parameters: LatticeParameters, client: ClientLattice) -> None:
    shape = ConvolutionShape(inputs=4, outputs=4, kernel=3, side=8)
    layer = TripletConvolution(shape, parameters)
    prepared = layer.prepare(ServerLattice(parameters, client.public_bytes()), drawn_weights(shape, 1))
    upload = layer.encrypt(client, drawn_maps(4, 8, 100, 3))
    (first, first_share), (second, second_share) = prepared.apply(upload), prepared.apply(upload)
    assert (first_share == second_share).mean() < 0.05
    assert (client.decrypt(first) == client.decrypt(second)).mean() < 0.05


def test_what_does_not_fit_is_refused(parameters: LatticeParameters, client: ClientLattice) -> None:
    with pytest.raises(ValueError, match="16384 pixels"):
        TripletConvolution(ConvolutionShape(inputs=1, outputs=1, kernel=1, side=128), parameters)
    shape = ConvolutionShape(inputs=4, outputs=4, kernel=3, side=8)
    layer = TripletConvolution(shape, parameters)
    with pytest.raises(ValueError, match="inputs of shape"):
        layer.encrypt(client, np.zeros((5, 8, 8), np.int64))
    prepared = layer.prepare(ServerLattice(parameters, client.public_bytes()), drawn_weights(shape, 1))
    with pytest.raises(LatticeError, match="bytes of ciphertexts"):
        prepared.apply(b"\0" * 100)
    with pytest.raises(LatticeError, match="bytes of results"):
        layer.decrypt(client, b"")
