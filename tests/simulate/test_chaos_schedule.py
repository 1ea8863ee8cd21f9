"""The schedule of faults: a function of the seed, everywhere and everybody hit, no sample sent too often."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mple.records.log_events import LogEvent, LogLine
from mple.records.run_folder import COMPUTE, COORDINATOR
from mple.simulate.chaos_schedule import (
    ChaosSettings,
    Fault,
    FaultKind,
    Moment,
    Stage,
    draw_faults,
    position,
)
from mple.simulate.progress import Progress, SiteProgress
from tests.support.training_records import epoch_metrics, step_metrics

SITES = ("north", "east", "south")
NODES = {COORDINATOR, COMPUTE, *SITES}


def hits(faults: tuple[Fault, ...], kind: FaultKind) -> list[str]:
    return [name for fault in faults if fault.kind is kind for name in fault.nodes]


def test_equal_seeds_draw_equal_schedules_and_others_do_not() -> None:
    first, again, other = (
        draw_faults(ChaosSettings(seed=seed, kills=20, stops=3, cuts=5), SITES, releases=4) for seed in (5, 5, 6)
    )
    assert first == again != other


@given(seed=st.integers(0, 10_000), kills=st.integers(7, 40))
def test_each_rank_is_killed_too_and_only_killed(seed: int, kills: int) -> None:
    ranks = ("rank 0 of compute", "rank 1 of compute")
    chaos = ChaosSettings(seed=seed, kills=kills, stops=9, starves=9)
    faults = draw_faults(chaos, SITES, releases=4, ranks=ranks)
    assert set(hits(faults, FaultKind.KILL)) == NODES | set(ranks)
    assert set(hits(faults, FaultKind.STOP)) | set(hits(faults, FaultKind.STARVE)) == NODES


@given(
    seed=st.integers(0, 10_000),
    kills=st.integers(6, 60),
    stops=st.integers(0, 9),
    cuts=st.integers(0, 25),
    releases=st.integers(1, 20),
)
def test_every_node_and_stage_is_hit_within_the_plans_releases(
    seed: int, kills: int, stops: int, cuts: int, releases: int
) -> None:
    faults = draw_faults(ChaosSettings(seed=seed, kills=kills, stops=stops, cuts=cuts), SITES, releases=releases)
    killed = hits(faults, FaultKind.KILL)
    assert len(killed) == kills
    assert set(killed) == NODES
    assert max(killed.count(name) for name in NODES) - min(killed.count(name) for name in NODES) <= 1
    assert len(hits(faults, FaultKind.STOP)) == stops
    assert len(hits(faults, FaultKind.CUT)) == cuts
    assert set(hits(faults, FaultKind.CUT)) <= {COORDINATOR, COMPUTE}
    if len(faults) >= len(Stage):
        assert {fault.moment.stage for fault in faults} == set(Stage)
    assert sum(fault.moment.stage is Stage.FEEDING for fault in faults) <= max(1, releases - 1)
    assert list(faults) == sorted(faults, key=lambda fault: fault.moment.place)
    for fault in faults:
        assert 0 <= fault.moment.share <= 1
        assert 0 < fault.seconds <= 4
        assert len(set(fault.nodes)) == len(fault.nodes) >= 1
        if fault.kind is FaultKind.CUT and fault.moment.stage in (Stage.GATHERING, Stage.SETUP):
            assert fault.nodes == (COORDINATOR,)


def test_many_kills_strike_several_nodes_at_once_and_few_strike_alone() -> None:
    many = draw_faults(ChaosSettings(seed=1, kills=50), SITES, releases=4)
    few = draw_faults(ChaosSettings(seed=1, kills=9), SITES, releases=4)
    assert max(len(fault.nodes) for fault in many) > 1
    assert max(len(fault.nodes) for fault in few) == 1


@pytest.mark.parametrize("numbers", [{"kills": -1}, {"kills": 0, "stops": 0, "cuts": 0}])
def test_impossible_numbers_are_refused(numbers: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="kills = "):
        ChaosSettings(seed=1, **numbers)
    with pytest.raises(ValueError, match="seed = -1"):
        ChaosSettings(seed=-1)


def test_a_moment_is_reached_by_its_stage_first() -> None:
    moment = Moment(Stage.TRAINING, 0.5)
    assert moment.reached(Moment(Stage.TRAINING, 0.5))
    assert moment.reached(Moment(Stage.END, 0.0))
    assert not moment.reached(Moment(Stage.TRAINING, 0.4))
    assert not moment.reached(Moment(Stage.FEEDING, 1.0))


def said(event: LogEvent, **about: str) -> LogLine:
    return LogLine(event=event, level="info", text="", **about)


def test_where_a_run_is_follows_from_what_its_nodes_wrote() -> None:
    progress = Progress(sites={name: SiteProgress(name) for name in SITES})
    where = [position(progress, 4)]
    for label in ("site/north", "compute/compute"):
        progress.read_log(COORDINATOR, said(LogEvent.PARTY_JOINED, party=label))
    where.append(position(progress, 4))
    progress.read_log(COORDINATOR, said(LogEvent.PHASE, phase="setup"))
    progress.read_log(COORDINATOR, said(LogEvent.LAYER_RELEASED, site="east"))
    where.append(position(progress, 4))
    progress.read_log(COORDINATOR, said(LogEvent.PHASE, phase="training"))
    for name in SITES:
        progress.sites[name].images = 10
    progress.read_ledger("north", samples=6, up=1, down=1, elapsed_s=1.0)
    where.append(position(progress, 4))
    for name in SITES:
        progress.read_ledger(name, samples=10, up=1, down=1, elapsed_s=1.0)
    progress.training.epochs = 2
    progress.read_metrics(step_metrics(epoch=1, step=5, steps=5))
    where.append(position(progress, 4))
    progress.read_metrics(step_metrics(epoch=2, step=5, steps=5))
    where.append(position(progress, 4))
    progress.read_metrics(epoch_metrics(epoch=2))
    where.append(position(progress, 4))
    progress.read_log(COORDINATOR, said(LogEvent.PHASE, phase="finished"))
    where.append(position(progress, 4))
    assert where == [
        Moment(Stage.GATHERING, 0.0),
        Moment(Stage.GATHERING, 0.5),
        Moment(Stage.SETUP, 1 / 3),
        Moment(Stage.FEEDING, 0.2),
        Moment(Stage.TRAINING, 0.5),
        Moment(Stage.END, 0.0),
        Moment(Stage.END, 0.5),
        Moment(Stage.END, 1.0),
    ]
