"""What a run of many sites costs each of them: as much as a run of few."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from coordinator.memory.envelopes import certificates_for_sealing
from mple.plan import Custody, RunPlan
from mple.v1 import coordinator_pb2
from tests.support.small_plan import small_plan
from tests.support.small_run import COMPUTE, COORDINATOR, SmallRun, sealed_for, settings_in, site_party

_MIB = 1 << 20


def told(run: SmallRun, site: str) -> list[str]:
    """Kinds of the events that a site is sent."""
    return [str(event.WhichOneof("event")) for event in run.run.log.read(site_party(site), 0)]


def whole_run(run: SmallRun) -> None:
    first, *others = run.settings.run.sites
    run.join_all()
    for site in others:
        run.run.put_sealed(site_party(first), sealed_for(f"site/{site}"))
    run.upload_all()
    run.stored()
    run.epoch(1)
    run.trained()


def test_a_site_is_sent_as_many_events_however_many_sites_there_are(
    start_run: Callable[..., SmallRun], tmp_path: Path
) -> None:
    for count in (2, 7):
        folder = tmp_path / str(count)
        folder.mkdir()
        names = tuple(f"site-{number}" for number in range(count))
        run = start_run(settings_in(folder, sites=names))
        whole_run(run)
        common = ["phase_changed", "phase_changed", "epoch_done", "phase_changed"]
        assert told(run, names[0]) == ["party_joined", "certificates", "plan_made", *common]
        for name in names[1:]:
            ours = ["party_joined", "plan_made", "phase_changed", "envelope_left", *common[1:]]
            assert told(run, name) == ours
        layers = [event for event in run.run.log.read(COMPUTE, 0) if event.HasField("layer_released")]
        assert len(layers) == count


def test_a_failed_site_is_no_event_for_a_thousand_others(small_run: SmallRun) -> None:
    small_run.join_all()
    small_run.run.fail("site/west", "fire")
    assert told(small_run, "north")[-1] == "phase_changed"
    assert "fault" not in told(small_run, "north")


def thousand(custody: Custody = Custody.SITE) -> RunPlan:
    names = [f"hospital-number-{number:04d}-of-a-thousand" for number in range(1000)]
    plan = small_plan(run_id="abc123", sizes=dict.fromkeys(names, (20, 3)), custody=custody)
    return dataclasses.replace(plan, classes=tuple(f"class {number}" for number in range(100)))


def test_the_messages_of_a_plan_of_a_thousand_sites_stay_below_a_mebibyte() -> None:
    plan = thousand()
    made = coordinator_pb2.PlanMade(plan_json=plan.to_json(), plan_sha256=plan.sha256())
    assert made.ByteSize() < _MIB / 2
    held = {COORDINATOR.label: b"c" * 2000, **{f"site/{site.name}": site.name.encode() * 60 for site in plan.sites}}
    messages = list(certificates_for_sealing(plan, COORDINATOR.label, held))
    assert max(message.ByteSize() for message in messages) < _MIB
    assert {message.recipient for message in messages} == {f"site/{plan.sites[0].name}"}
    told = {one.party: one.der for message in messages for one in message.parties}
    assert told == {f"site/{site.name}": held[f"site/{site.name}"] for site in plan.sites[1:]}


def test_in_escrow_every_site_seals_to_the_coordinator_alone() -> None:
    (message,) = certificates_for_sealing(thousand(Custody.ESCROW), COORDINATOR.label, {COORDINATOR.label: b"der"})
    assert message.recipient == ""
    assert [(one.party, one.der) for one in message.parties] == [(COORDINATOR.label, b"der")]


def test_a_plan_is_read_and_hashed_once_a_process() -> None:
    plan = thousand()
    text = plan.to_json()
    again = RunPlan.from_json(text)
    assert again == plan
    assert RunPlan.from_json(bytes(bytearray(text))) is again
    assert again.to_json() is again.to_json()
    assert dataclasses.replace(again, compute="other").sha256() != again.sha256()
