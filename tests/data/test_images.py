"""Labelled images, data sets and normalisation."""

import numpy as np
import pytest

from mple.data import DataError, Dataset, LabelledImages
from mple.data.images import numbered_classes
from mple.data.normalise import normalise
from mple.data.settings import NormalisationSettings
from mple.model.settings import TaskKind
from mple.morph import ImageShape


def _images(count: int = 4, channels: int = 1, side: int = 5, labels: list[int] | None = None) -> LabelledImages:
    pixels = np.arange(count * channels * side * side, dtype=np.uint8).reshape(count, channels, side, side)
    return LabelledImages(pixels, np.asarray(labels if labels is not None else [0, 1] * (count // 2), np.int64))


def test_shape_is_of_one_image() -> None:
    assert _images(channels=3).shape == ImageShape(channels=3, height=5, width=5)


def test_take_keeps_the_order_asked_for_and_repeats() -> None:
    images = _images(labels=[0, 1, 2, 3])
    taken = images.take(np.array([3, 0, 3]))
    assert taken.labels.tolist() == [3, 0, 3]
    np.testing.assert_array_equal(taken.pixels_NCHW, images.pixels_NCHW[[3, 0, 3]])


def test_what_is_taken_is_a_copy() -> None:
    images = _images()
    images.take(np.array([0])).pixels_NCHW[:] = 77
    assert 77 not in images.pixels_NCHW[0]


def test_nothing_can_be_taken() -> None:
    assert _images().take(np.empty(0, np.int64)).pixels_NCHW.shape == (0, 1, 5, 5)


@pytest.mark.parametrize("wrong", [-1, 4])
def test_take_names_the_number_that_is_outside(wrong: int) -> None:
    with pytest.raises(DataError, match=f"image number {wrong} .* there are 4"):
        _images().take(np.array([0, wrong, 1]))


@pytest.mark.parametrize(
    ("pixels", "labels"),
    [
        (np.zeros((2, 1, 4, 4), np.float32), np.zeros(2, np.int64)),
        (np.zeros((2, 4, 4), np.uint8), np.zeros(2, np.int64)),
        (np.zeros((2, 5, 4, 4), np.uint8), np.zeros(2, np.int64)),
        (np.zeros((2, 1, 4, 4), np.uint8), np.zeros(3, np.int64)),
        (np.zeros((2, 1, 4, 4), np.uint8), np.zeros(2, np.int32)),
    ],
)
def test_images_of_other_form_are_refused(pixels: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(DataError):
        LabelledImages(pixels, labels)


def test_a_dataset_needs_one_shape() -> None:
    with pytest.raises(DataError, match="test images"):
        Dataset(name="x", classes=("a", "b"), train=_images(), test=_images(side=4))


def test_a_dataset_refuses_labels_without_class() -> None:
    with pytest.raises(DataError, match="label 2 is out of range; there are 2"):
        Dataset(name="x", classes=("a", "b"), train=_images(labels=[0, 1, 2, 0]), test=_images())


def test_classes_of_numbers_reach_to_the_highest() -> None:
    assert numbered_classes((), np.array([0, 3, 1, 2, 3]), "x") == ("0", "1", "2", "3")


def test_a_site_with_one_class_must_name_them() -> None:
    with pytest.raises(DataError, match="`classes`"):
        numbered_classes((), np.array([0, 0]), "x")


def test_normalisation_is_the_formula() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (3, 3, 4, 5), dtype=np.uint8)
    mean, std = (0.1, 0.5, 0.9), (0.2, 0.3, 0.4)
    expected = (pixels / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    x_NCHW = normalise(pixels, NormalisationSettings(mean=mean, std=std))
    assert x_NCHW.dtype == np.float32
    np.testing.assert_allclose(x_NCHW, expected, atol=2e-6)


def test_one_value_serves_all_channels() -> None:
    pixels = np.full((1, 4, 2, 2), 255, np.uint8)
    np.testing.assert_allclose(normalise(pixels, NormalisationSettings()), np.full((1, 4, 2, 2), 2.0), rtol=1e-6)


def test_three_means_do_not_turn_grey_into_colour() -> None:
    with pytest.raises(ValueError, match="3 means for images of 1 channels"):
        normalise(np.zeros((2, 1, 4, 4), np.uint8), NormalisationSettings(mean=(0.5,) * 3, std=(0.25,) * 3))


@pytest.mark.parametrize(("mean", "std"), [((), ()), ((0.5,), (0.1, 0.1)), ((0.5,), (0.0,))])
def test_normalisation_refuses_impossible_values(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="mean"):
        NormalisationSettings(mean=mean, std=std)


def test_images_may_have_several_labels_each() -> None:
    """Of 0, 1 and -1 for unknown; a number of images is that of rows."""
    pixels = np.zeros((2, 1, 5, 5), np.uint8)
    images = LabelledImages(pixels, np.array([[0, 1, -1], [1, 1, 0]]))
    assert (len(images), images.take(np.array([1])).labels.tolist()) == (2, [[1, 1, 0]])
    dataset = Dataset(name="x", classes=("a", "b", "c"), train=images, test=images)
    assert (dataset.task, Dataset(name="x", classes=("a", "b"), train=_images(), test=_images()).task) == (
        TaskKind.LABELS,
        TaskKind.CLASSES,
    )
    with pytest.raises(DataError, match="3 labels for each image, 2 names"):
        Dataset(name="x", classes=("a", "b"), train=images, test=images)
    with pytest.raises(DataError, match="2 among the labels; a label is 1"):
        Dataset(name="x", classes=("a", "b", "c"), train=images, test=LabelledImages(pixels, images.labels * 2))
    with pytest.raises(DataError, match="one split has classes, the other labels"):
        Dataset(name="x", classes=("a", "b"), train=_images(), test=images)
