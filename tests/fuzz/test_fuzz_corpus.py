"""The finds of earlier campaigns once more, and a short campaign of its own."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.fuzz import coordinator_target
from tests.fuzz.campaign import campaign, rss_mib
from tests.fuzz.compute_target import ComputeTarget
from tests.fuzz.coordinator_target import CoordinatorTarget
from tests.fuzz.corpus import all_shots, keep, read
from tests.fuzz.mutation import Mutator
from tests.fuzz.shots import Shot, Watchdog
from tests.fuzz.site_target import SiteTarget
from tests.support.served import PartyTls

MESSAGES = 2000


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    coordinator_target.prepare(folder)
    return folder


@pytest.mark.parametrize("path", all_shots(), ids=lambda path: path.stem)
def test_a_find_is_refused_and_harms_nobody(tmp_path: Path, prepared: Path, party_tls: PartyTls, path: Path) -> None:
    shot = read(path)
    target: CoordinatorTarget | ComputeTarget | SiteTarget
    if shot.target == "coordinator":
        target = CoordinatorTarget(tmp_path / "coordinator", shot.phase, party_tls, prepared / shot.phase)
    elif shot.target == "compute":
        target = ComputeTarget(tmp_path / "compute", shot.phase, party_tls)
    else:
        target = SiteTarget(tmp_path / "site", party_tls)
    with contextlib.closing(target), Watchdog() as watchdog:
        before_mib = rss_mib()
        outcome = target.replay(shot)
        assert outcome.status not in ("OK", "INTERNAL", "UNKNOWN"), outcome.text
        assert not outcome.status.startswith("UNHANDLED"), outcome.text
        assert not outcome.hung
        assert rss_mib() - before_mib < 50
        assert target.alive()
    assert watchdog.found == []


def test_a_short_campaign_finds_nothing(tmp_path: Path, party_tls: PartyTls) -> None:
    figures = campaign(MESSAGES, 7, tmp_path, party_tls)
    assert figures.finds == []
    assert figures.clean
    assert figures.messages >= MESSAGES
    assert {name.partition(" ")[0] for name in figures.messages_by_rpc} == {"coordinator", "compute", "site"}


def test_the_same_seed_draws_the_same_messages() -> None:
    import random

    from tests.fuzz.seeds import coordinator_seeds
    from tests.support.small_run import plan_for

    seeds = coordinator_seeds(plan_for(), bytes(1000))
    drawn = [
        [Mutator(draw).mutated(seed.messages[0], [seed.messages[0]]) for seed in seeds for _ in range(20)]
        for draw in (random.Random(3), random.Random(3), random.Random(4))
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
    changed = [
        data for seed, data in zip(seeds, drawn[0][::20], strict=True) if data != seed.messages[0].SerializeToString()
    ]
    assert len(changed) > len(seeds) // 2


def test_a_find_survives_its_file(tmp_path: Path) -> None:
    shot = Shot("coordinator", "setup", "site/north", "/a.B/C", (b"", bytes(range(200)), b"x"), None, endless=True)
    assert read(keep(tmp_path, shot, shot.messages)) == shot
