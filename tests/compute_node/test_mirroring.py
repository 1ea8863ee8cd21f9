"""What sites say of mirrored channels: taken in once for all, kept for restarts, refused where it can't be."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest

from compute_node.feeding.intake import Intake
from compute_node.feeding.mirroring import Mirroring
from compute_node.feeding.sample_cache import SampleCache
from compute_node.layers.layer_bank import LayerBank
from mple.disk.damage import DamagedError
from mple.model.settings import Augment, ModelSettings
from mple.plan import TrainingSettings
from mple.records.cache_records import CacheShape
from mple.rpc import ErrorCode, MpleError
from mple.v1 import compute_pb2
from tests.support.small_plan import CACHE_SECRET, small_plan

PLAN = small_plan(
    model=ModelSettings(width=0.125, stem_mirrored=True), training=TrainingSettings(augment=(Augment.MIRROR,))
)
WORD = [1, 0, 2, 4, 3, 7, 6, 5]


def refusal(mirroring: Mirroring, told: list[int]) -> str:
    with pytest.raises(MpleError) as refused:
        mirroring.take(told, "south")
    assert refused.value.code is ErrorCode.MIRRORING_REJECTED
    return refused.value.detail


def test_one_word_of_all_sites_outlives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "mirroring.json"
    mirroring = Mirroring(path, PLAN)
    assert mirroring.channels is None
    for _ in range(2):  # each site's stream, and each again after a broken link
        mirroring.take(WORD, "north")
        mirroring.take(WORD, "south")
    assert mirroring.channels is not None
    assert np.array_equal(mirroring.channels, WORD)
    restarted = Mirroring(path, PLAN)
    assert restarted.channels is not None
    assert np.array_equal(restarted.channels, WORD)
    assert "site south tells other mirror images than a site before it" in refusal(restarted, [0, 1, 2, 3, 4, 5, 6, 7])
    assert np.array_equal(restarted.channels, WORD)
    assert Mirroring(path, dataclasses.replace(PLAN, run_id="another")).channels is None


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ([], "0 channels' mirror images; the plan has 8 channels"),
        (WORD[:-1], "7 channels' mirror images; the plan has 8 channels"),
        ([*WORD, 8], "9 channels' mirror images"),
        ([1, 2, 0, 3, 4, 5, 6, 7], "channel 0 has its mirror image in 1, which has its own elsewhere"),
        ([0, 0, 2, 3, 4, 5, 6, 7], "channel 1 has its mirror image in 0"),
        ([0, 1, 2, 3, 4, 5, 6, 2**32 - 1], "channel 7 has its mirror image in 4294967295"),
    ],
)
def test_what_cannot_be_is_refused_and_not_kept(tmp_path: Path, told: list[int], words: str) -> None:
    mirroring = Mirroring(tmp_path / "mirroring.json", PLAN)
    assert words in refusal(mirroring, told)
    assert mirroring.channels is None
    assert not list(tmp_path.iterdir())


def test_nobody_tells_where_the_plan_does_not_mirror(tmp_path: Path) -> None:
    mirroring = Mirroring(tmp_path / "mirroring.json", small_plan())
    mirroring.take([], "north")
    assert "nobody is to tell" in refusal(mirroring, WORD)


def test_a_damaged_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "mirroring.json"
    Mirroring(path, PLAN).take(WORD, "north")
    path.write_text(path.read_text().replace("7", "5"))
    with pytest.raises(DamagedError, match=r"mirroring.json"):
        Mirroring(path, PLAN)


def test_the_trainer_waits_for_the_first_word(tmp_path: Path) -> None:
    changed = threading.Condition()
    cache = SampleCache(tmp_path / "cache.bin", CacheShape.of(PLAN), CACHE_SECRET, changed)
    mirroring = Mirroring(tmp_path / "mirroring.json", PLAN)
    bank = LayerBank(PLAN)
    intake = Intake(PLAN, cache, bank, changed, in_flight_samples=9, idle_timeout_s=60.0, mirroring=mirroring)
    hello = compute_pb2.FeedHello(plan_sha256=PLAN.sha256(), mirrored_channels=WORD)
    teller = threading.Timer(0.05, lambda: intake.take_hello("south", hello))
    teller.start()
    channels = intake.mirrored_channels()
    teller.join()
    assert channels is not None
    assert np.array_equal(channels, WORD)


def test_a_plan_without_mirrors_waits_for_nobody(tmp_path: Path) -> None:
    plan, changed = small_plan(), threading.Condition()
    cache = SampleCache(tmp_path / "cache.bin", CacheShape.of(plan), CACHE_SECRET, changed)
    intake = Intake(
        plan,
        cache,
        LayerBank(plan),
        changed,
        in_flight_samples=9,
        idle_timeout_s=60.0,
        mirroring=Mirroring(tmp_path / "m.json", plan),
    )
    assert intake.mirrored_channels() is None
