"""What a run refuses, and how it fails: joining, envelopes, reports, configurations."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.phases import Phase
from coordinator.run import Run
from mple.metrics import MetricSettings
from mple.plan import (
    AbsenceSettings,
    Custody,
    DeliverTo,
    DeliverySettings,
    MorphSettings,
    NormalisationSettings,
    PrivacyMode,
    PrivacySettings,
    RunChoices,
    TaskKind,
    TaskSettings,
    TrainingSettings,
    WireSettings,
)
from mple.plan.run_plan import PROTOCOL_VERSION
from mple.rpc import ErrorCode, Party, Role
from mple.v1 import coordinator_pb2
from tests.support.small_run import (
    COMPUTE,
    COORDINATOR,
    GATHERED,
    MODEL,
    SITES,
    SmallRun,
    compute_join,
    refused,
    sealed_for,
    settings_in,
    site_join,
    site_party,
    site_profile,
)

NORTH, SOUTH = site_party("north"), site_party("south")
KEY = coordinator_pb2.SEALED_KIND_MORPH_KEY


@pytest.mark.parametrize(
    ("caller", "request_", "code"),
    [
        (site_party("east"), site_join("east"), ErrorCode.UNKNOWN_PARTY),
        (Party("test", Role.COMPUTE, "other"), compute_join(), ErrorCode.UNKNOWN_PARTY),
        (NORTH, compute_join(), ErrorCode.MESSAGE_MALFORMED),
        (COMPUTE, site_join("north"), ErrorCode.MESSAGE_MALFORMED),
        (NORTH, coordinator_pb2.JoinRequest(protocol_version=PROTOCOL_VERSION), ErrorCode.MESSAGE_MALFORMED),
        (NORTH, site_join("south"), ErrorCode.UNKNOWN_KEY_REF),
        (NORTH, site_join("north", train_images=0), ErrorCode.EMPTY_SITE),
        (NORTH, site_join("north", width=9), ErrorCode.SCHEMA_MISMATCH),
        (NORTH, site_join("north", channels=3), ErrorCode.SCHEMA_MISMATCH),
        (NORTH, site_join("north", classes=("benign", "unclear")), ErrorCode.SCHEMA_MISMATCH),
        (NORTH, coordinator_pb2.JoinRequest(site=site_profile("north")), ErrorCode.PROTOCOL_VERSION),
        (COMPUTE, compute_join(bytes(32)), ErrorCode.STEM_REJECTED),
        (COMPUTE, compute_join(weights_digest=bytes(32)), ErrorCode.WEIGHTS_REJECTED),
        (SOUTH, site_join("south", test_images=4), ErrorCode.ALREADY_JOINED),
    ],
)
def test_party_that_can_not_join_leaves_no_trace(
    small_run: SmallRun, caller: Party, request_: coordinator_pb2.JoinRequest, code: ErrorCode
) -> None:
    small_run.join_site("south")
    with refused(code):
        small_run.run.join(caller, request_, b"certificate")
    assert small_run.story() == ["joined site/south"]
    if caller.label != SOUTH.label:
        with refused(ErrorCode.UNKNOWN_PARTY, "has not joined; join first"):
            small_run.run.require_joined(caller)
    small_run.join_all()
    assert small_run.run.state().phase is Phase.SETUP


def test_envelopes_in_site_custody(small_run: SmallRun) -> None:
    small_run.join_all()
    first = sealed_for("site/south")
    small_run.run.put_sealed(NORTH, first)
    second = sealed_for("site/south")
    second.envelope = b"sealed anew"
    small_run.run.put_sealed(NORTH, second)
    assert [left.envelope for left in small_run.run.envelopes.to("site/south")] == [b"sealed"]
    with refused(ErrorCode.ENVELOPE_REJECTED, "the plan's first site"):
        small_run.run.put_sealed(SOUTH, sealed_for("site/west"))
    with refused(ErrorCode.ENVELOPE_REJECTED, "only the consortium secret"):
        small_run.run.put_sealed(NORTH, sealed_for(COORDINATOR.label, KEY))


def test_failure_ends_the_run_and_later_calls_say_so(small_run: SmallRun) -> None:
    small_run.join_all()
    data = small_run.layer("north")
    small_run.run.report_failure(SOUTH, coordinator_pb2.Failure(code="STALLED", text="the disk is full"))
    assert small_run.story() == [*GATHERED, "fault site/south", "failed"]
    assert small_run.events()[-1].phase_changed.reason == "site/south: the disk is full"
    for _ in range(2):
        for call in (
            lambda: small_run.run.put_sealed(NORTH, sealed_for("site/south")),
            lambda: small_run.begin("north", data),
            lambda: small_run.stored(),
            lambda: small_run.epoch(1),
            lambda: small_run.trained(),
        ):
            with refused(ErrorCode.RUN_FAILED, "site/south: the disk is full"):
                call()
        small_run.join_site("north")  # to hear of it
        small_run.run.report_failure(NORTH, coordinator_pb2.Failure(text="the run has failed"))
        small_run.restart()
    assert small_run.story() == [*GATHERED, "fault site/south", "failed"]


def test_failure_before_all_have_joined_keeps_the_others_out(small_run: SmallRun) -> None:
    small_run.join_site("north")
    small_run.run.report_failure(SOUTH, coordinator_pb2.Failure(code="SCHEMA_MISMATCH"))
    with refused(ErrorCode.RUN_FAILED, "site/south: SCHEMA_MISMATCH"):
        small_run.join_site("west")
    assert small_run.story() == ["joined site/north", "fault site/south", "failed"]


def test_failure_report_of_a_stranger_ends_nothing(small_run: SmallRun) -> None:
    with refused(ErrorCode.UNKNOWN_PARTY):
        small_run.run.report_failure(site_party("east"), coordinator_pb2.Failure(text="fire"))
    assert small_run.run.state().phase is Phase.GATHERING


def test_long_failure_text_is_cut(small_run: SmallRun) -> None:
    small_run.run.report_failure(NORTH, coordinator_pb2.Failure(text="x" * 100_000))
    assert len(small_run.run.state().reason) < 600


def test_training_needs_the_right_plan_and_all_layers(small_run: SmallRun) -> None:
    small_run.join_all()
    with refused(ErrorCode.WRONG_PHASE, "LayersStored while the run is setup"):
        small_run.stored()
    small_run.upload_all()
    with refused(ErrorCode.PLAN_HASH_MISMATCH, f"the run {small_run.run.plan.sha256().hex()[:16]}"):
        small_run.run.report_layers_stored(coordinator_pb2.LayersStored(plan_sha256=bytes(32)))
    with refused(ErrorCode.WRONG_PHASE, "EpochReported while the run is setup"):
        small_run.epoch(1)
    with refused(ErrorCode.WRONG_PHASE, "TrainingDone while the run is setup"):
        small_run.trained()
    assert small_run.story() == [*GATHERED, *(f"layer {site}" for site in SITES)]


def test_step_whose_consequences_fail_did_not_happen(small_run: SmallRun) -> None:
    small_run.join_all()
    small_run.upload_all()
    before, state = small_run.story(), small_run.run.state()

    def on_phase(phase: str) -> None:
        if phase == "training":
            raise OSError("the disk is full")

    run = Run(small_run.settings, COORDINATOR, b"certificate", small_run.file, on_phase)
    with pytest.raises(OSError, match="the disk is full"):
        run.report_layers_stored(coordinator_pb2.LayersStored(plan_sha256=run.plan.sha256()))
    assert small_run.story() == before
    assert small_run.run.state() == state
    small_run.stored()
    assert small_run.story() == [*before, "training"]


@pytest.mark.parametrize(
    ("number", "figures"),
    [
        (0, {}),
        (5, {}),
        (1, {"loss": math.nan}),
        (1, {"scores": {"loss": math.inf}}),
        (1, {"scores": {"accuracy": math.nan}}),
        (1, {"seconds": math.nan}),
        (1, {"scores": {"accuracy": 1.5}}),
        (1, {"scores": {"accuracy": -1.0}}),
        (1, {"scores": {"sharpness": 0.5}}),
    ],
)
def test_epoch_that_can_not_be_is_refused(small_run: SmallRun, number: int, figures: dict[str, object]) -> None:
    small_run.join_all()
    small_run.upload_all()
    small_run.stored()
    with refused(ErrorCode.MESSAGE_MALFORMED, f"epoch {number} of 4"):
        small_run.epoch(number, **figures)


def test_epochs_are_announced_once(small_run: SmallRun) -> None:
    small_run.join_all()
    small_run.upload_all()
    small_run.stored()
    for number in (1, 1, 2, 1, 2, 3):
        small_run.epoch(number)
        small_run.restart()
    assert small_run.story()[-3:] == ["epoch 1", "epoch 2", "epoch 3"]


def test_first_model_digest_stays(small_run: SmallRun) -> None:
    small_run.join_all()
    small_run.upload_all()
    small_run.stored()
    with refused(ErrorCode.MESSAGE_MALFORMED, "digest of 5 bytes instead of 32"):
        small_run.trained(b"short")
    small_run.trained()
    small_run.trained()
    with refused(ErrorCode.MESSAGE_MALFORMED, f"reported before was {MODEL.hex()[:16]}"):
        small_run.trained(bytes(32))
    assert small_run.file.fact("model_sha256") == MODEL


def test_run_goes_on_only_under_its_own_configuration(small_run: SmallRun, tmp_path: Path) -> None:
    settings = small_run.settings
    longer = dataclasses.replace(settings, training=TrainingSettings(epochs=9))
    small_run.join_site("north")
    small_run.restart(training=longer.training)  # nobody has agreed on anything yet
    small_run.restart(training=settings.training)
    small_run.join_all()
    others = {
        "run.sites": settings_in(tmp_path, sites=("north", "south")),
        "run.custody": settings_in(tmp_path, custody=Custody.ESCROW),
        "model.stem, model": settings_in(tmp_path, stem="offered"),
        "run.compute": dataclasses.replace(settings, run=dataclasses.replace(settings.run, compute="other")),
        "morph": settings_in(tmp_path, morph=MorphSettings(preset="paper")),
        "task": dataclasses.replace(settings, task=TaskSettings(kind=TaskKind.LABELS)),
        "training": longer,
        "delivery": dataclasses.replace(settings, delivery=DeliverySettings(to=DeliverTo.NONE)),
        "wire": dataclasses.replace(settings, wire=WireSettings(codec="q4")),
        "model": dataclasses.replace(settings, model=dataclasses.replace(settings.model, dropout=0.5)),
        "metrics": dataclasses.replace(settings, metrics=MetricSettings(tallies=("counts",))),
        "normalisation": dataclasses.replace(settings, normalisation=NormalisationSettings(mean=(0.1,))),
        "absence": dataclasses.replace(settings, absence=AbsenceSettings(patience_s=7.0)),
        "privacy": dataclasses.replace(settings, privacy=PrivacySettings(mode=PrivacyMode.NOISE)),
    }
    assert {section.name for section in dataclasses.fields(RunChoices)} <= set(others)
    for name, other in others.items():
        with pytest.raises(ValueError, match=f"begun with another {name}; restore the configuration"):
            Run(other, COORDINATOR, b"certificate", small_run.file)
    with pytest.raises(ValueError, match=f"holds run {small_run.run.run_id} .* begun with another coordinator;"):
        Run(settings, Party("other", Role.COORDINATOR, "coordinator"), b"certificate", small_run.file)
    small_run.restart(listen="127.0.0.1:7400", stay=True)
    assert small_run.story() == GATHERED


def test_a_plan_is_for_the_ranks_that_have_joined(small_run: SmallRun) -> None:
    small_run.join_compute()
    small_run.restart(training=dataclasses.replace(small_run.settings.training, ranks=2))
    for site in SITES:
        small_run.join_site(site)
    with refused(ErrorCode.RUN_FAILED, r"no plan can be made: .*training.ranks = 2, the compute node joins with 1"):
        small_run.run.require_unfailed()


def test_two_runs_have_two_names(start_run: Callable[..., SmallRun], tmp_path: Path) -> None:
    names = {start_run(settings_in(tmp_path / folder)).run.run_id for folder in "ab"}
    assert len(names) == 2
    assert all(name.isalnum() for name in names)
