"""Who is a rank, what is its own, and what is refused."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from compute_node import command
from compute_node.compute_run import _require_planned
from compute_node.rank_settings import of_rank, require_equal
from compute_node.ranks import ALONE, RankEndedError, RankGroup, joined_ranks, own_share
from mple.node.stop import Stop
from mple.plan import ComputeSettings, MonitoringSettings, TrainingSettings
from mple.plan.shares import Share
from mple.rpc import ErrorCode, MpleError
from mple.v1 import compute_pb2
from tests.support.open_intake import OpenIntake
from tests.support.small_plan import small_plan

SETTINGS = ComputeSettings(state=Path("state"), tls=Path("tls"), listen="0.0.0.0:7401", coordinator="x:7400")


class _Group(RankGroup):
    """A group whose others say what this rank says, but for what a test writes down."""

    def __init__(self, *others: bytes | None) -> None:
        super().__init__(Share(0, 1 + len(others)))
        self._others = others

    def gather(self, mine: bytes = b"") -> tuple[bytes, ...]:
        return (mine, *(mine if other is None else other for other in self._others))


@pytest.mark.parametrize(
    ("environment", "share", "local"),
    [
        ({}, Share(), 0),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, Share(), 0),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, Share(3, 4), 1),
    ],
)
def test_the_environment_says_which_rank_this_is(environment: dict[str, str], share: Share, local: int) -> None:
    assert own_share(environment) == (share, local)


@pytest.mark.parametrize("environment", [{"RANK": "0"}, {"WORLD_SIZE": "2"}, {"RANK": "2", "WORLD_SIZE": "2"},
                                         {"RANK": "x", "WORLD_SIZE": "2"}])  # fmt: skip
def test_an_environment_that_contradicts_itself_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"the environment says .*torchrun.* for a single process unset them"):
        own_share(environment)


def test_the_only_rank_talks_to_itself() -> None:
    assert (ALONE.main.gather(b"a"), ALONE.main.collect(b"b"), ALONE.trainer.broadcast(b"c")) == (
        (b"a",),
        (b"b",),
        b"c",
    )
    ALONE.main.tell(ValueError("nobody hears"))


def test_a_rank_has_its_own_folder_and_ports() -> None:
    settings = replace(SETTINGS, monitoring=MonitoringSettings(listen="127.0.0.1:9464"))
    own = of_rank(settings, 5, 1)
    assert (own.state, own.listen, own.monitoring.listen) == (Path("state/rank-5"), "0.0.0.0:7402", "127.0.0.1:9465")
    assert of_rank(settings, 0, 0) == settings
    assert of_rank(replace(settings, listen="127.0.0.1:0"), 1, 1).listen == "127.0.0.1:0"
    with pytest.raises(ValueError, match=r"rank 1 of this machine would listen at port 65536; choose a lower `listen`"):
        of_rank(replace(settings, listen="127.0.0.1:65535"), 1, 1)


def test_unequal_files_at_ranks_are_refused_with_what_differs() -> None:
    require_equal(replace(SETTINGS, state=Path("elsewhere")), _Group(None, None))
    said: list[bytes] = []
    require_equal(replace(SETTINGS, threads=3), _Recorder(said))
    with pytest.raises(ValueError, match=r"rank 2 was started with threads = 3, rank 0 with 2; give all ranks equal"):
        require_equal(SETTINGS, _Group(None, said[0]))
    older = json.dumps({**json.loads(said[0]), "threads": 2, "version of mple": "0.0.1"}).encode()
    with pytest.raises(ValueError, match=r'rank 1 was started with version of mple = "0.0.1", rank 0 with'):
        require_equal(SETTINGS, _Group(older))


class _Recorder(RankGroup):
    def __init__(self, said: list[bytes]) -> None:
        super().__init__(Share())
        self._said = said

    def gather(self, mine: bytes = b"") -> tuple[bytes, ...]:
        self._said.append(mine)
        return (mine,)


def test_a_plan_for_other_ranks_is_refused() -> None:
    plan = small_plan(training=TrainingSettings(ranks=2))
    with pytest.raises(MpleError, match=r"training.ranks = 2, this compute node was started with 1") as refused:
        _require_planned(plan, ALONE)
    assert refused.value.code is ErrorCode.RANKS_REJECTED
    assert refused.value.fix == "start 2 with torchrun, or set training.ranks = 1 for the next run"
    two = replace(ALONE, share=Share(0, 2), main=_Group(None))
    _require_planned(plan, two)
    with pytest.raises(MpleError, match=r"ranks 1 follow another plan than rank 0"):
        _require_planned(plan, replace(two, main=_Group(b"another")))


def test_a_missing_rank_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    text = rf"rank 0 of 2 has not met all others within 1 s at 127.0.0.1:{port}: .*start 2 ranks with equal torchrun"
    with pytest.raises(RankEndedError, match=text), joined_ranks(Stop(), "gloo", meeting_s=1.0):
        pass


def test_a_site_that_means_another_rank_is_refused(window: Callable[..., OpenIntake]) -> None:
    with pytest.raises(MpleError, match=r"site north means rank 1 .* this is rank 0") as refused:
        window().intake.take_hello("north", compute_pb2.FeedHello(rank=1))
    assert refused.value.code is ErrorCode.RANKS_REJECTED


def test_the_process_of_a_rank_waits_for_no_other_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr("os._exit", ended.append)
    monkeypatch.setattr(command, "run_node", lambda *_: 130)
    assert (command.main([]), ended) == (130, [])
    monkeypatch.setenv("WORLD_SIZE", "2")
    command.main([])
    assert ended == [130]
