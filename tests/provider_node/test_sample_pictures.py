"""Pictures that a site keeps for a report: its own, in its own folder, and none of them in both forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mple.data import Dataset, LabelledImages
from mple.morph.morpher import Morpher
from mple.plan import ReportSettings, RunPlan, WireSettings
from mple.v1 import common_pb2
from mple.wire.codecs import codec_named
from provider_node.feeding.morphing import MorphedImages
from provider_node.feeding.sample_pictures import keep_sample_pictures
from tests.support.small_plan import key_of, small_plan


def site_of(plan: RunPlan) -> tuple[LabelledImages, MorphedImages]:
    dice = np.random.Generator(np.random.PCG64(3))
    count = plan.site("north").train_images
    pixels = dice.integers(0, 256, (count, plan.channels, plan.height, plan.width)).astype(np.uint8)
    train = LabelledImages(pixels, np.arange(count) % 3)
    dataset = Dataset(name="small", classes=plan.classes, train=train, test=train.take(np.arange(1)))
    return train, MorphedImages(dataset, plan, "north", key_of("north"), np.arange(3), 1)


@pytest.mark.parametrize("codec", ["f32", "q8"])
def test_they_are_what_the_feed_sends_but_of_other_pictures(tmp_path: Path, codec: str) -> None:
    plan = small_plan(sizes={"north": (40, 2)}, channels=3, wire=WireSettings(codec=codec))
    train, images = site_of(plan)
    keep_sample_pictures(tmp_path, train, plan, images, 8)
    (path,) = tmp_path.iterdir()
    assert path.name == "pictures-small-run.npz"
    assert path.stat().st_mode & 0o777 == 0o600
    with np.load(path, allow_pickle=False) as kept:
        seen_N, travelling_N = kept["seen_N"], kept["travelling_N"]
        assert np.array_equal(kept["pixels_NCHW"], train.pixels_NCHW[seen_N])
        travelling_NCHW = kept["travelling_NCHW"]
    assert len(seen_N) == len(travelling_N) == 8
    assert not set(seen_N) & set(travelling_N)
    sent = images.batch(common_pb2.SPLIT_TRAIN, travelling_N.tolist()).coded
    t_BKQ = codec_named(codec).decode(sent, plan.geometry.blocks)
    assert np.array_equal(np.sort(travelling_NCHW.ravel()), np.sort(t_BKQ.ravel()))
    key = key_of("north")
    morpher = Morpher(plan.morph.scheme(), plan.image, key, session=plan.session, key_epoch=1)
    x_BCHW = morpher.unmorph(t_BKQ)
    pixels_BCHW = train.pixels_NCHW[travelling_N] / 255
    assert np.abs(x_BCHW * 0.25 + 0.5 - pixels_BCHW).max() < 0.05, "the key must bring the very pictures back"


def test_a_restart_keeps_what_is_there(tmp_path: Path) -> None:
    plan = small_plan()
    train, images = site_of(plan)
    keep_sample_pictures(tmp_path, train, plan, images, 8)
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"as it was")
    keep_sample_pictures(tmp_path, train, plan, images, 8)
    assert path.read_bytes() == b"as it was"


def test_a_single_picture_is_shown_in_neither_form(tmp_path: Path) -> None:
    plan = small_plan(sizes={"north": (1, 1)})
    train, images = site_of(plan)
    keep_sample_pictures(tmp_path, train, plan, images, 8)
    with np.load(next(tmp_path.iterdir())) as kept:
        assert len(kept["pixels_NCHW"]) == len(kept["travelling_NCHW"]) == 0


def test_none_are_kept_unless_the_sites_setting_says_so(tmp_path: Path) -> None:
    assert ReportSettings().sample_pictures == 0
    plan = small_plan()
    train, images = site_of(plan)
    keep_sample_pictures(tmp_path, train, plan, images, ReportSettings().sample_pictures)
    assert list(tmp_path.iterdir()) == []
    keep_sample_pictures(tmp_path, train, plan, images, 2)
    with np.load(next(tmp_path.iterdir())) as kept:
        assert (len(kept["pixels_NCHW"]), len(kept["travelling_NCHW"])) == (2, 2)
    keep_sample_pictures(tmp_path, train, plan, images, 0)
    assert list(tmp_path.iterdir()) == [], "what was left goes with the setting"
