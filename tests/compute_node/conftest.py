"""Fixtures of the compute node's tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from compute_node.feeding.intake import Intake
from compute_node.feeding.mirroring import Mirroring
from compute_node.feeding.sample_cache import SampleCache
from compute_node.layers.layer_bank import LayerBank
from mple.plan import AbsencePolicy, TaskSettings, WireSettings
from mple.records.cache_records import CacheShape
from tests.support.open_intake import CODEC, IDLE_S, Clock, OpenIntake
from tests.support.small_plan import CACHE_SECRET, small_plan


@pytest.fixture
def window(tmp_path: Path) -> Callable[..., OpenIntake]:
    """Opens intakes on one cache file."""

    def start(
        in_flight_samples: int = 100,
        policy: AbsencePolicy = AbsencePolicy.WAIT,
        vals: Mapping[str, int] | None = None,
        task: TaskSettings | None = None,
    ) -> OpenIntake:
        plan = small_plan(wire=WireSettings(codec=CODEC.name, message_bytes=16 * 1024), vals=vals, task=task)
        shape, clock = CacheShape.of(plan), Clock()
        changed, bank = threading.Condition(), LayerBank(plan)
        cache = SampleCache(tmp_path / "cache.bin", shape, CACHE_SECRET, changed)
        intake = Intake(
            plan,
            cache,
            bank,
            changed,
            in_flight_samples=in_flight_samples,
            idle_timeout_s=IDLE_S,
            mirroring=Mirroring(tmp_path / "mirroring.json", plan),
            policy=policy,
            clock=clock,
        )
        return OpenIntake(intake, cache, plan, clock, changed, bank)

    return start
