"""Networks of integers: exact against plain loops, refusals, and their file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from comparison.lattice.parameters import batching_prime
from comparison.networks import LinearStage, NetworkError, QuantisedNetwork, small_network
from comparison.networks.quantised import Pool
from mple.morph import ImageShape


def plain_stage(stage: LinearStage, x_CHW: NDArray[np.int64]) -> NDArray[np.int64]:
    """As the contract says it, in loops over positions, in int64."""
    if stage.flatten:
        x_CHW = x_CHW.reshape(-1, 1, 1)
    outputs, _, side, _ = stage.weights_OIpp.shape
    _, height, width = x_CHW.shape
    padded = np.pad(x_CHW, ((0, 0), (side // 2, side // 2), (side // 2, side // 2)))
    sums = np.empty((outputs, height, width), np.int64)
    for y in range(height):
        for x in range(width):
            window = padded[:, y : y + side, x : x + side]
            sums[:, y, x] = (stage.weights_OIpp.astype(np.int64) * window).sum((1, 2, 3)) + stage.bias_O
    if stage.shift is None:
        return sums
    if stage.pool != "none":
        parts = sums.reshape(outputs, height // 2, 2, width // 2, 2)
        pooled: NDArray[np.int64] = (
            np.maximum(parts.max((2, 4)), 0) >> stage.shift
            if stage.pool == "max"
            else (np.maximum(parts, 0) >> stage.shift).sum((2, 4))
        )
        return pooled
    return np.asarray(np.maximum(sums, 0) >> stage.shift)


def plain_logits(network: QuantisedNetwork, pixels_NCHW: NDArray[np.uint8]) -> NDArray[np.int64]:
    logits = []
    for x_CHW in network.quantise(pixels_NCHW):
        for stage in network.stages:
            x_CHW = plain_stage(stage, x_CHW)
        logits.append(x_CHW.reshape(-1))
    return np.array(logits)


def pictures(count: int, seed: int = 1, side: int = 8, channels: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, channels, side, side)).astype(np.uint8)


def of_weights(
    weights: object, bias: object, shift: int | None, *, name: str = "a", pool: Pool = "none", flatten: bool = False
) -> LinearStage:
    return LinearStage(
        name=name,
        weights_OIpp=np.asarray(weights, np.int32),
        bias_O=np.asarray(bias, np.int64),
        shift=shift,
        pool=pool,
        flatten=flatten,
    )


def one_pixel(*stages: LinearStage, bits: int = 20, shift: int = 0) -> QuantisedNetwork:
    shape = ImageShape(channels=1, height=1, width=1)
    return QuantisedNetwork(name="one", input_shape=shape, stages=stages, modulus_bits=bits, pixel_shift=shift)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_small_network_by_loops(seed: int) -> None:
    network, pixels = small_network(seed), pictures(2, seed)
    assert network.run(pixels).tolist() == plain_logits(network, pixels).tolist()


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_any_network_by_loops(data: st.DataObject) -> None:
    """Also where sums are beyond what binary32 holds exactly."""
    draw = data.draw
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    most = draw(st.sampled_from([3, 100, 20_000]))
    channels, middle, side = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.sampled_from([2, 4]))
    kernel, pool = draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from(get_args(Pool)))
    after = side if pool == "none" else side // 2
    first = random.integers(-most, most + 1, (middle, channels, kernel, kernel))
    last = random.integers(-3, 4, (2, middle * after * after, 1, 1))
    network = QuantisedNetwork(
        name="drawn",
        input_shape=ImageShape(channels=channels, height=side, width=side),
        stages=(
            of_weights(first, random.integers(-most, most, middle), draw(st.integers(0, 6)), pool=pool),
            of_weights(last, [5, -5], None, name="b", flatten=True),
        ),
        modulus_bits=30,
        pixel_shift=draw(st.integers(0, 2)),
    )
    pixels = pictures(3, draw(st.integers(0, 99)), side, channels)
    if np.abs(plain_logits(network, pixels)).max() <= network.largest_sum:
        assert network.run(pixels).tolist() == plain_logits(network, pixels).tolist()


def test_sums_beyond_binary32_are_exact() -> None:
    """2^24 + 1 is the first whole number that binary32 does not hold."""
    big = of_weights([[[[2**24 // 127]]]], [2**24 % 127 + 1], 0)
    assert one_pixel(big, of_weights([[[[1]]]], [0], None, name="b"), bits=30).run(
        np.array([[[[255]]]], np.uint8)
    ).tolist() == [[2**24 + 1]]


def test_pixels_lose_their_offset_and_bits_rounding_down() -> None:
    network = one_pixel(of_weights([[[[1]]]], [0], None), shift=1)
    assert network.quantise(np.array([0, 127, 128, 129, 255], np.uint8)).tolist() == [-64, -1, 0, 0, 63]


def test_sides_and_classes_by_hand() -> None:
    network = small_network()
    assert network.sides == (8, 4, 1)
    assert network.classes == 5


def test_ranges_are_those_of_the_loops() -> None:
    network, pixels = small_network(), pictures(150)
    first, _, last = network.ranges(pixels)
    sums = plain_stage(replace(network.stages[0], shift=None, pool="none"), network.quantise(pixels)[0])
    assert first.sums >= np.abs(sums).max()
    assert last.sums == last.results == np.abs(network.run(pixels)).max()
    assert network.ranges(pixels[:1])[0].sums == np.abs(sums).max()


def test_the_small_network_never_leaves_its_residues() -> None:
    """The bound holds for every picture: magnitudes of weights times the largest input, stage by stage."""
    for seed in range(20):
        network, most = small_network(seed), 128
        for stage in network.stages:
            most = int(np.abs(stage.weights_OIpp.astype(np.int64)).sum((1, 2, 3)).max()) * most + 200
            assert most <= network.largest_sum
            most = (most >> (stage.shift or 0)) * (4 if stage.pool == "sum" else 1)


def test_a_sum_at_the_bound_passes_and_one_beyond_is_refused() -> None:
    limit = small_network().largest_sum
    assert limit == (batching_prime(20, 4096) - 3) // 2
    grey = np.array([[[[128]]]], np.uint8)
    for sign in (1, -1):
        assert one_pixel(of_weights([[[[1]]]], [sign * limit], None)).run(grey).tolist() == [[sign * limit]]
        with pytest.raises(NetworkError, match=r"'a'.*leaves the residues"):
            one_pixel(of_weights([[[[1]]]], [sign * (limit + 1)], None)).run(grey)


def test_no_pictures_give_no_logits() -> None:
    assert small_network().run(pictures(0)).shape == (0, 5)
    with pytest.raises(NetworkError, match="no pictures"):
        small_network().ranges(pictures(0))


@pytest.mark.parametrize("pixels", [pictures(1, side=4), pictures(1).astype(np.int64)])
def test_other_pictures_are_refused(pixels: NDArray[np.uint8]) -> None:
    with pytest.raises(NetworkError, match="needs uint8"):
        small_network().run(pixels)


def test_a_file_gives_the_same_network(tmp_path: Path) -> None:
    network, path = small_network(3), tmp_path / "network.safetensors"
    network.save(path)
    read = QuantisedNetwork.load(path)
    assert (read.name, read.input_shape, read.modulus_bits) == (network.name, network.input_shape, 20)
    assert (read.pixel_offset, read.pixel_shift, read.sides) == (128, 0, network.sides)
    for ours, theirs in zip(network.stages, read.stages, strict=True):
        assert theirs.weights_OIpp.dtype == np.int32
        assert ours.weights_OIpp.tolist() == theirs.weights_OIpp.tolist()
        assert ours.bias_O.tolist() == theirs.bias_O.tolist()
        assert (ours.name, ours.shift, ours.pool, ours.flatten) == (
            theirs.name,
            theirs.shift,
            theirs.pool,
            theirs.flatten,
        )
    assert read.run(pictures(3)).tolist() == network.run(pictures(3)).tolist()


def test_large_weights_survive_the_file(tmp_path: Path) -> None:
    one_pixel(of_weights([[[[-70_000]]]], [0], None)).save(tmp_path / "n")
    assert QuantisedNetwork.load(tmp_path / "n").stages[0].weights_OIpp.tolist() == [[[[-70_000]]]]


def test_damaged_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    with pytest.raises(NetworkError, match="no quantised network at"):
        QuantisedNetwork.load(path)
    small_network().save(path)
    whole = path.read_bytes()
    other_key = whole.replace(b"quantised_network", b"Quantised_network")
    for content in (whole[:-1], whole.replace(b"shift", b"shaft"), other_key):
        path.write_bytes(content)
        with pytest.raises(NetworkError, match="holds no quantised network"):
            QuantisedNetwork.load(path)


def test_stages_that_do_not_fit_are_refused() -> None:
    dense = of_weights(np.ones((1, 1, 1, 1)), [0], None)
    for stages, said in (
        ((of_weights(np.ones((2, 1, 1, 1)), [0, 0], 0, name="b"), dense), "takes 1 channels"),
        ((of_weights(np.ones((1, 1, 1, 1)), [0], 0, name="b", pool="max"), dense), "pools 'max'"),
        ((dense, dense), "every stage but the last"),
        ((), "every stage but the last"),
        ((of_weights(np.ones((1, 1, 1, 1)), [0], 0), dense), "name each once"),
    ):
        with pytest.raises(NetworkError, match=said):
            one_pixel(*stages)


@pytest.mark.parametrize(
    ("weights", "bias", "shift", "said"),
    [
        (np.ones((1, 1, 2, 2)), [0], 0, "odd"),
        (np.ones((1, 1, 3)), [0], 0, "need int32"),
        (np.ones((2, 1, 3, 3)), [0], 0, "bias"),
        (np.ones((1, 1, 3, 3)), [0], 32, "shift = 32"),
    ],
)
def test_impossible_stages_are_refused(weights: object, bias: object, shift: int, said: str) -> None:
    with pytest.raises(NetworkError, match=said):
        of_weights(weights, bias, shift)


def test_a_modulus_without_slots_is_refused() -> None:
    with pytest.raises(ValueError, match="16 to 30"):
        one_pixel(of_weights([[[[1]]]], [0], None), bits=15)
