"""Raw calls for hostile acts, and what is asserted of each: its status and its line in the audit trail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import grpc

from mple.plan import RunPlan
from mple.rpc import ErrorCode, Party
from tests.fuzz.shots import Outcome, Shot, dial, fire
from tests.support.open_coordinator import OpenCoordinator, honest_layer, read, upload
from tests.support.small_run import COMPUTE as COMPUTE_NODE
from tests.support.small_run import SECRET, site_party

Refusals = Callable[[], list[tuple[str, str]]]
"""Who was refused with which result."""
COORDINATOR, COMPUTE = "/mple.v1.CoordinatorService/", "/mple.v1.ComputeService/"


def call(
    channel: grpc.Channel,
    method: str,
    *messages: bytes,
    reply: Callable[[bytes], list[bytes]] | None = None,
    most_answers: int = 64,
) -> Outcome:
    """One call with these messages."""
    return fire(channel, Shot("", "", "", method, messages, reply), most_answers, quiet_s=2.0)


def assert_refused(outcome: Outcome, code: ErrorCode, caller: str, refused: Refusals) -> None:
    """The caller got this code under its status, and the audit trail says so."""
    assert (outcome.status, outcome.code) == (code.status.name, code), outcome.text
    assert (caller, code) in refused()


def channel_of(coordinator: OpenCoordinator, party: Party) -> grpc.Channel:
    """A party's raw channel to a coordinator."""
    return dial(coordinator.rpc.address, coordinator.party_tls(party.role, party.name))


def assert_honest_work_goes_on(coordinator: OpenCoordinator, plan: RunPlan, folder: Path) -> None:
    """South brings its layer, and the compute node hears of it."""
    upload(coordinator.stub(site_party("south")), plan, "south", honest_layer(plan, "south", folder, SECRET))
    assert coordinator.run.story()[-1] == "layer south"
    newest = coordinator.run.run.log.last_sequence()
    (event,) = read(coordinator.stub(COMPUTE_NODE), 1, after=newest - 1)
    assert event.layer_released.header.key_ref.site == "south"


def within(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether it comes true in time."""
    for _ in range(int(seconds / 0.02)):
        if condition():
            return True
        threading.Event().wait(0.02)
    return condition()


def never(until: threading.Event, first: Iterable[bytes] = ()) -> Iterable[bytes]:
    """Messages, then silence that the caller does not end by itself."""
    yield from first
    until.wait(60)
