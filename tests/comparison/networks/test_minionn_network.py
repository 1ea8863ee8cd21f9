"""MiniONN's network: the published sizes, its training, its file."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from comparison.networks import (
    Minionn,
    MinionnEpoch,
    QuantisationSettings,
    folded_minionn,
    quantise,
    train_minionn,
)
from comparison.networks.minionn import accuracy, varied
from mple.data import Dataset, LabelledImages


def colours(count: int, seed: int, side: int = 32) -> LabelledImages:
    """Class k is bright in channel k, under noise."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    pixels = random.integers(0, 160, (count, 3, side, side))
    pixels[np.arange(count), labels] += 90
    return LabelledImages(pixels.astype(np.uint8), labels)


def dataset(train: int = 96, test: int = 30, side: int = 32) -> Dataset:
    return Dataset(
        name="colours", classes=("red", "green", "blue"), train=colours(train, 1, side), test=colours(test, 2, side)
    )


def test_published_sizes() -> None:
    """61.1 million multiplications and 173,056 ReLUs, as the papers count them."""
    network = folded_minionn(Minionn(10))
    made = quantise(network, colours(2, 1).pixels_NCHW)
    assert made.sides == (32, 32, 16, 16, 8, 8, 8, 1)
    of_stages = list(zip(made.stages, made.sides, strict=True))
    assert sum(len(stage.bias_O) * side**2 for stage, side in of_stages if stage.shift is not None) == 173_056
    assert round(sum(stage.weights_OIpp.size * side**2 for stage, side in of_stages) / 1e6, 1) == 61.1


def test_training_learns_and_equal_seeds_give_equal_networks() -> None:
    told: list[MinionnEpoch] = []
    first = train_minionn(dataset(), epochs=4, batch=16, peak_lr=0.05, bf16=False, on_epoch=told.append)
    assert tuple(told) == first.epochs and [epoch.epoch for epoch in told] == [1, 2, 3, 4]
    assert told[-1].loss < told[0].loss
    assert told[-1].test_accuracy == accuracy(first.network, dataset().test) > 0.6
    again = train_minionn(dataset(), epochs=1, batch=16, bf16=False)
    once_more = train_minionn(dataset(), epochs=1, batch=16, bf16=False)
    for one, other in zip(again.network.parameters(), once_more.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_trained_and_quantised_it_classifies_alike() -> None:
    trained = train_minionn(dataset(), epochs=3, batch=16, peak_lr=0.05, bf16=False).network
    made = quantise(folded_minionn(trained), dataset().train.pixels_NCHW[:40], QuantisationSettings(modulus_bits=20))
    test = dataset().test
    found = float((made.run(test.pixels_NCHW).argmax(1) == test.labels).mean())
    assert abs(found - accuracy(trained, test)) <= 0.1


def test_other_pictures_and_impossible_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="32 x 32"):
        train_minionn(dataset(side=8), epochs=1)
    for epochs, batch in ((0, 16), (1, 1), (1, 97)):
        with pytest.raises(ValueError, match="allowed are 1 and more, 2 to 96"):
            train_minionn(dataset(), epochs=epochs, batch=batch)
    with pytest.raises(ValueError, match="2 or more"):
        Minionn(1)


def test_without_test_pictures_nothing_is_scored() -> None:
    outcome = train_minionn(dataset(train=16, test=0), epochs=1, batch=8, bf16=False)
    assert outcome.epochs[0].test_accuracy is None


def test_pictures_are_mirrored_and_moved() -> None:
    """Each is one of 2 x 7 x 7 views of its original, grey where nothing moved in from."""
    pixels = np.random.default_rng(1).integers(0, 256, (40, 3, 8, 8)).astype(np.uint8)
    seen = set()
    for before, after in zip(pixels, varied(pixels, np.random.default_rng(2)), strict=True):
        padded = np.pad(before, ((0, 0), (3, 3), (3, 3)), constant_values=128)
        views = {
            (down, right, step): padded[:, down : down + 8, right : right + 8][:, :, ::step]
            for down in range(7)
            for right in range(7)
            for step in (1, -1)
        }
        matching = [view for view, content in views.items() if np.array_equal(content, after)]
        assert len(matching) == 1
        seen.add(matching[0])
    assert len(seen) > 20 and {step for _, _, step in seen} == {1, -1}
