"""A site's morphed batches: the same codes at every release, labels permuted and never of the test split."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mple.data import DataError
from mple.morph.morpher import Morpher
from mple.plan import RunPlan
from mple.wire.codecs import codec_named
from provider_node.feeding.morphing import MorphedImages
from tests.support.coloured_site import DATASET, plan_with
from tests.support.small_plan import TEST, TRAIN, key_of

ORDER = np.array([2, 0, 1])


def images_of(plan: RunPlan) -> MorphedImages:
    return MorphedImages(DATASET, plan, "north", key_of("north"), ORDER)


@pytest.mark.parametrize("preset", ["compact", "distinct"])
def test_a_batch_is_normalised_morphed_and_coded(preset: str) -> None:
    plan = plan_with(preset, "f32")
    batch = images_of(plan).batch(TRAIN, [7, 3])
    pixels = DATASET.train.pixels_NCHW[[7, 3]].astype(np.float64) / 255
    mean, std = (np.array(values).reshape(1, 3, 1, 1) for values in ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3)))
    morpher = Morpher(plan.morph.scheme(), plan.image, key_of("north"), session=b"small-run", key_epoch=1)
    expected = morpher.morph((pixels - mean) / std)
    found = codec_named("f32").decode(batch.coded, plan.geometry.blocks)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


def test_labels_leave_in_permuted_form() -> None:
    """Place j on the wire holds class order[j]: class 0 is at place 1, class 1 at place 2, class 2 at place 0."""
    batch = images_of(plan_with("compact")).batch(TRAIN, [0, 1, 2, 4])
    assert batch.labels_B.tolist() == [1, 2, 0, 2]
    assert ORDER[batch.labels_B].tolist() == DATASET.train.labels[[0, 1, 2, 4]].tolist()


def test_labels_of_the_test_split_never_leave() -> None:
    batch = images_of(plan_with("compact")).batch(TEST, [0, 5])
    assert batch.labels_B.size == 0
    assert batch.coded.codes_BV.shape == (2, 3072)


KAPPAS = {"compact": None, "distinct": None, "paper": 12}


@pytest.mark.parametrize("preset", KAPPAS)
def test_codes_do_not_depend_on_what_a_sample_is_sent_with(preset: str) -> None:
    """A re-sent sample is grouped with others than the first time; its codes must stay the same, bit for bit."""
    images = images_of(plan_with(preset, "f32", KAPPAS[preset]))
    whole = images.batch(TRAIN, range(40)).coded.codes_BV

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.integers(0, 39), min_size=1, max_size=40, unique=True))
    def regrouped(samples: list[int]) -> None:
        assert images.batch(TRAIN, samples).coded.codes_BV.tobytes() == whole[samples].tobytes()

    regrouped()
    assert images.batch(TRAIN, [*range(40)] * 5).coded.codes_BV.tobytes() == whole.tobytes() * 5
    assert images.batch(TRAIN, []).coded.codes_BV.shape == (0, whole.shape[1])


def test_another_site_name_run_or_key_gives_other_codes() -> None:
    plan = plan_with("compact")
    codes = images_of(plan).batch(TRAIN, [0]).coded.codes_BV
    other = MorphedImages(DATASET, plan, "north", key_of("south"), ORDER).batch(TRAIN, [0]).coded.codes_BV
    assert (codes != other).mean() > 0.5


def test_a_sample_that_is_not_there_is_refused() -> None:
    with pytest.raises(DataError, match="image number 6"):
        images_of(plan_with("compact")).batch(TEST, [6])
