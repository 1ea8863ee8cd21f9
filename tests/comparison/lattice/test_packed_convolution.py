"""GAZELLE's layers under encryption, against the integers."""

from __future__ import annotations

import numpy as np
import pytest

from comparison.lattice import (
    ClientLattice,
    ConvolutionShape,
    LatticeError,
    LatticeParameters,
    PackedConvolution,
    PackedProduct,
    ServerLattice,
)
from tests.support.plain_convolution import convolved, drawn_maps, drawn_weights

SHAPES = [
    (3, 8, 3, 32),  # as the first layer
    (8, 4, 3, 32),
    (5, 3, 3, 16),
    (40, 16, 1, 8),
    (33, 5, 5, 8),
    (64, 140, 3, 4),  # one row of inputs, both rows of outputs
    (140, 64, 3, 4),
    (300, 260, 1, 4),  # several ciphertexts each
    (40, 520, 3, 2),
    (30, 30, 3, 2),
    (20, 10, 3, 1),
    (1, 1, 3, 4),
]


def shape_of(numbers: tuple[int, int, int, int]) -> ConvolutionShape:
    inputs, outputs, kernel, side = numbers
    return ConvolutionShape(inputs=inputs, outputs=outputs, kernel=kernel, side=side)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("numbers", SHAPES)
def test_shares_of_the_convolution(
    numbers: tuple[int, int, int, int], keep: bool, parameters: LatticeParameters, client: ClientLattice
) -> None:
    shape, t = shape_of(numbers), parameters.plain_modulus
    layer, weights = PackedConvolution(shape, parameters), drawn_weights(shape, 1)
    server = ServerLattice(parameters, client.public_bytes(layer.key_steps))
    mine, theirs = (drawn_maps(shape.inputs, shape.side, t, seed) for seed in (3, 4))
    mask, bias = drawn_maps(shape.outputs, shape.side, t, 5), np.arange(-5, shape.outputs - 5) * 1000
    upload = layer.encrypt(client, mine)
    download = layer.prepare(server, weights, keep=keep).apply(upload, theirs, bias, mask)
    assert (len(upload), len(download)) == (layer.expected_upload_bytes, layer.expected_download_bytes)
    expected = convolved((mine + theirs) % t, weights) + bias[:, None, None] - mask
    assert np.array_equal(layer.decrypt(client, download), expected % t)


def test_a_stage_without_a_share_and_weights_of_zero(parameters: LatticeParameters, client: ClientLattice) -> None:
    shape, t = shape_of((3, 8, 3, 32)), parameters.plain_modulus
    layer, weights = PackedConvolution(shape, parameters), np.zeros((8, 3, 3, 3), np.int32)
    weights[5:, 1, 1, 2] = -7  # the first ciphertext of outputs has no weight at all
    server = ServerLattice(parameters, client.public_bytes(layer.key_steps))
    x_CHW, bias = drawn_maps(3, 32, t, 3), np.full(8, 9)
    prepared = layer.prepare(server, weights)
    download = prepared.apply(layer.encrypt(client, x_CHW), None, bias, np.zeros((8, 32, 32), np.int64))
    expected = (convolved(x_CHW, weights.astype(np.int64)) + 9) % t
    assert np.array_equal(layer.decrypt(client, download), expected)


def test_a_product(parameters: LatticeParameters, client: ClientLattice) -> None:
    t, rng = parameters.plain_modulus, np.random.default_rng(0)
    layer = PackedProduct(1024, 10, parameters)
    server = ServerLattice(parameters, client.public_bytes(layer.key_steps))
    weights, bias = rng.integers(-63, 64, (10, 1024)), rng.integers(-9999, 9999, 10)
    mine, theirs, mask = rng.integers(0, t, 1024), rng.integers(0, t, 1024), rng.integers(0, t, 10)
    upload = layer.encrypt(client, mine)
    download = layer.prepare(server, weights).apply(upload, theirs, bias, mask)
    assert (len(upload), len(download)) == (layer.expected_upload_bytes, layer.expected_download_bytes)
    assert np.array_equal(layer.decrypt(client, download), (weights @ ((mine + theirs) % t) + bias - mask) % t)


def test_slots_without_a_result_are_masked(parameters: LatticeParameters, client: ClientLattice) -> None:
    """The same input twice: results agree where they are results, and nowhere else."""
    t = parameters.plain_modulus
    layer = PackedProduct(1024, 10, parameters)
    server = ServerLattice(parameters, client.public_bytes(layer.key_steps))
    prepared = layer.prepare(server, np.ones((10, 1024), np.int64))
    upload, nothing = layer.encrypt(client, np.arange(1024)), np.zeros(10, np.int64)
    first, second = (client.decrypt(prepared.apply(upload, None, nothing, nothing))[0] for _ in range(2))
    agree = first == second
    assert agree[:10].all()
    assert (first[:10] == np.arange(1024).sum() % t).all()
    assert agree[10:].sum() < 5


@pytest.mark.parametrize("numbers", [(8, 4, 3, 32), (40, 520, 3, 2), (300, 260, 1, 4)])
def test_every_key_is_needed(
    numbers: tuple[int, int, int, int], parameters: LatticeParameters, client: ClientLattice
) -> None:
    shape = shape_of(numbers)
    layer, weights = PackedConvolution(shape, parameters), drawn_weights(shape, 1)
    upload = layer.encrypt(client, drawn_maps(shape.inputs, shape.side, 100, 3))
    mask = drawn_maps(shape.outputs, shape.side, 100, 4)
    for step in layer.key_steps:
        server = ServerLattice(parameters, client.public_bytes(layer.key_steps - {step}))
        with pytest.raises(LatticeError, match=f"step {step}:"):
            layer.prepare(server, weights, keep=False).apply(upload, None, np.zeros(shape.outputs, np.int64), mask)


@pytest.mark.parametrize("bits", [20, 21, 22])
def test_the_largest_sums_decrypt_with_budget_to_spare(bits: int) -> None:
    """512 input channels and nine taps, as VGG-16's largest layers, in one ciphertext of outputs."""
    parameters = LatticeParameters.with_bits(bits)
    client, shape, t = ClientLattice(parameters), shape_of((512, 256, 3, 4)), parameters.plain_modulus
    layer, weights = PackedConvolution(shape, parameters), drawn_weights(shape, 1)
    server = ServerLattice(parameters, client.public_bytes(layer.key_steps), flooded=False)
    mine, theirs, mask = drawn_maps(512, 4, t, 3), drawn_maps(512, 4, t, 4), drawn_maps(256, 4, t, 5)
    prepared = layer.prepare(server, weights, keep=False)
    download = prepared.apply(layer.encrypt(client, mine), theirs, np.zeros(256, np.int64), mask)
    assert client.budget(download) >= 5
    expected = convolved((mine + theirs) % t, weights) - mask
    assert np.array_equal(layer.decrypt(client, download), expected % t)


def test_a_message_of_another_layer_is_refused(parameters: LatticeParameters, client: ClientLattice) -> None:
    layer = PackedConvolution(shape_of((40, 16, 1, 8)), parameters)
    server = ServerLattice(parameters, client.public_bytes(layer.key_steps))
    prepared = layer.prepare(server, drawn_weights(layer.shape, 1))
    other = PackedConvolution(shape_of((80, 16, 1, 8)), parameters).encrypt(client, drawn_maps(80, 8, 100, 3))
    with pytest.raises(LatticeError, match="expected 36896"):
        prepared.apply(other, None, np.zeros(16, np.int64), np.zeros((16, 8, 8), np.int64))
    with pytest.raises(LatticeError, match="expected 36864"):
        layer.decrypt(client, b"")
