"""A run by direct calls: through all phases in both custodies, across restarts after each step, and its refusals."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coordinator.layers.escrow import EscrowWorker
from coordinator.phases import Phase
from mple.model.stem import Stem
from mple.pki import seal
from mple.plan import Custody, MorphSettings
from mple.plan.orders import seal_info
from mple.rpc import ErrorCode
from mple.v1 import coordinator_pb2
from tests.support.served import PartyTls
from tests.support.small_plan import key_of
from tests.support.small_run import (
    COMPUTE,
    COORDINATOR,
    GATHERED,
    MODEL,
    SITES,
    SmallRun,
    refused,
    sealed_for,
    settings_in,
    site_party,
    stem_for,
)

NORTH, SOUTH = site_party("north"), site_party("south")
SECRET = coordinator_pb2.SEALED_KIND_CONSORTIUM_SECRET
KEY = coordinator_pb2.SEALED_KIND_MORPH_KEY

RELEASED = [*GATHERED, *(f"layer {site}" for site in SITES)]
FINISHED = [*RELEASED, "training", "epoch 1", "epoch 2", "finished"]


Step = Callable[[SmallRun], object]


def steps_in_site_custody() -> Iterator[Step]:
    """What the parties do, one call after the other."""
    for site in SITES:
        yield lambda run, site=site: run.join_site(site)  # type: ignore[misc]
    yield lambda run: run.join_compute()
    for site in SITES[1:]:
        yield lambda run, site=site: run.run.put_sealed(NORTH, sealed_for(f"site/{site}"))  # type: ignore[misc]
    for site in SITES:
        yield lambda run, site=site: run.begin(site, run.layer(site))  # type: ignore[misc]
        yield lambda run, site=site: run.upload(site, run.layer(site))  # type: ignore[misc]
    yield SmallRun.stored
    yield lambda run: run.epoch(1)
    yield lambda run: run.epoch(2)
    yield SmallRun.trained
    for site in SITES:
        yield lambda run, site=site: run.run.report_totals(  # type: ignore[misc]
            site_party(site), coordinator_pb2.LedgerTotals(messages_sent=5)
        )


def test_totals_of_each_rank_are_kept_over_a_restart(small_run: SmallRun) -> None:
    run = small_run
    run.restart(training=dataclasses.replace(run.settings.training, ranks=3))
    for rank in (0, 2):
        run.run.report_totals(COMPUTE, coordinator_pb2.LedgerTotals(messages_sent=5, rank=rank))
    run.restart()
    assert run.run.totals_from() == {"compute/compute", "compute/compute rank 2"}
    with refused(ErrorCode.MESSAGE_MALFORMED, "totals of rank 3 of compute/compute, which has 3"):
        run.run.report_totals(COMPUTE, coordinator_pb2.LedgerTotals(rank=3))
    with refused(ErrorCode.MESSAGE_MALFORMED, "totals of rank 1 of site/north, which has 1"):
        run.run.report_totals(site_party("north"), coordinator_pb2.LedgerTotals(rank=1))


def test_run_in_site_custody(small_run: SmallRun) -> None:
    for do in steps_in_site_custody():
        do(small_run)
    assert small_run.story() == FINISHED
    assert small_run.phases == ["gathering", "setup", "training", "finished"]
    assert small_run.run.totals_from() == {f"site/{site}" for site in SITES}
    assert small_run.file.fact("model_sha256") == MODEL
    done = small_run.events()[-2].epoch_done
    assert (done.loss, dict(done.scores), done.seconds) == (0.5, {"accuracy": 0.75}, 1.5)
    assert small_run.events()[4].certificates == coordinator_pb2.Certificates(
        recipient="site/north",
        parties=[
            coordinator_pb2.PartyCertificate(party=f"site/{site}", der=b"certificate of " + site.encode())
            for site in SITES[1:]
        ],
    )
    made = small_run.events()[5].plan_made
    assert made.plan_json == small_run.run.plan.to_json()
    assert made.plan_sha256 == small_run.run.plan.sha256()


def test_restart_after_each_step_changes_nothing(small_run: SmallRun) -> None:
    run_id, before = small_run.run.run_id, small_run.events()
    planned: bytes | None = None
    for do in steps_in_site_custody():
        do(small_run)
        events = small_run.events()
        assert events[: len(before)] == before
        small_run.restart()
        assert small_run.run.run_id == run_id
        assert small_run.events() == events
        if planned is not None:
            assert small_run.run.plan.sha256() == planned
        planned = small_run.run.plan.sha256() if "setup" in small_run.story() else None
        before = events
    assert small_run.story() == FINISHED


def test_every_step_may_be_repeated_at_once_and_after_a_restart(small_run: SmallRun) -> None:
    """A party that did not hear the answer asks again."""
    for do in steps_in_site_custody():
        do(small_run)
        story = small_run.story()
        do(small_run)
        small_run.restart()
        do(small_run)
        assert small_run.story() == story
    assert small_run.story() == FINISHED


def test_parties_that_start_again_at_the_end_may_repeat_all(small_run: SmallRun) -> None:
    for do in steps_in_site_custody():
        do(small_run)
    for do in steps_in_site_custody():
        do(small_run)
    assert small_run.story() == FINISHED


def test_run_in_escrow_custody_with_restarts(
    start_run: Callable[..., SmallRun], certificates: dict[str, bytes], party_tls: PartyTls, tmp_path: Path
) -> None:
    run = start_run(settings_in(tmp_path, custody=Custody.ESCROW), certificates)
    run.join_all()
    run.restart()
    for site in SITES:
        info = seal_info(run.run.run_id, f"site/{site}", COORDINATOR.label, KEY)
        request = sealed_for(COORDINATOR.label, KEY)
        request.envelope = seal(certificates[COORDINATOR.label], key_of(site).seed, info)
        run.run.put_sealed(site_party(site), request)
        run.restart()
    assert run.run.state().layers_due
    with refused(ErrorCode.WRONG_PHASE, "LayersStored while the run is setup"):
        run.stored()
    coordinator = EscrowWorker(run.run, run.releases, party_tls(COORDINATOR.role, COORDINATOR.name).key)
    coordinator.resume()
    with run.file.changed:
        assert run.file.changed.wait_for(lambda: run.run.state().all_released, 20)
    coordinator.stop()
    run.restart()
    assert run.story() == RELEASED
    for do in (SmallRun.stored, lambda run: run.epoch(1), lambda run: run.epoch(2), SmallRun.trained):
        do(run)
        run.restart()
    assert run.story() == FINISHED


def test_offered_stem_comes_before_the_plan(start_run: Callable[..., SmallRun], tmp_path: Path) -> None:
    run = start_run(settings_in(tmp_path, stem="offered"))
    stem = stem_for("another")
    for site in SITES:
        run.join_site(site)
    with refused(ErrorCode.STEM_REJECTED, "offered was none"):
        run.join_compute(stem.digest())
    assert run.run.offer_stem(COMPUTE, stem.to_safetensors()) == stem.digest()
    run.restart()
    assert run.run.offer_stem(COMPUTE, stem.to_safetensors()) == stem.digest()
    with refused(ErrorCode.STEM_REJECTED, f"stem {stem.digest().hex()[:16]} was offered before"):
        run.run.offer_stem(COMPUTE, stem_for().to_safetensors())
    with refused(ErrorCode.STEM_REJECTED, "joins with none"):
        run.join_compute()
    run.join_compute(stem.digest())
    assert run.run.plan.stem_digest == stem.digest().hex()
    assert Stem.from_safetensors(run.run.stem_file(stem.digest())).digest() == stem.digest()
    assert run.run.offer_stem(COMPUTE, stem.to_safetensors()) == stem.digest()


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"", "no safetensors"), (b"noise" * 50, "no safetensors"), (bytes(1024 * 1024 + 1), "allowed are 1048576")],
)
def test_stem_that_is_none_is_refused(
    start_run: Callable[..., SmallRun], tmp_path: Path, content: bytes, text: str
) -> None:
    run = start_run(settings_in(tmp_path, stem="offered"))
    with refused(ErrorCode.STEM_REJECTED, text):
        run.run.offer_stem(COMPUTE, content)


def test_stem_is_not_taken_where_it_is_seeded(small_run: SmallRun) -> None:
    with refused(ErrorCode.STEM_REJECTED, "the run has a stem without an offer"):
        small_run.run.offer_stem(COMPUTE, stem_for().to_safetensors())
    small_run.join_all()
    with refused(ErrorCode.STEM_REJECTED, "the plan's stem is"):
        small_run.run.stem_file(bytes(32))


def test_offered_stem_that_does_not_fit_ends_the_run(start_run: Callable[..., SmallRun], tmp_path: Path) -> None:
    run = start_run(settings_in(tmp_path, stem="offered"))
    wide = Stem.from_seed("another", filters=64, channels=3, kernel=3)
    run.run.offer_stem(COMPUTE, wide.to_safetensors())
    run.join_compute(wide.digest())
    for site in SITES:
        run.join_site(site)
    assert run.story()[-2:] == ["fault coordinator/coordinator", "failed"]
    reason = run.events()[-1].phase_changed.reason
    assert "no plan can be made: STEM_REJECTED" in reason
    assert "the stem has 64 filters" in reason


def test_settings_that_do_not_fit_end_the_run_with_the_reason(
    start_run: Callable[..., SmallRun], tmp_path: Path
) -> None:
    run = start_run(settings_in(tmp_path))
    run.join_compute()
    for site in SITES:
        run.join_site(site, classes=tuple(f"{number:05d}" + "x" * 150 for number in range(4000)))
    assert run.phases == ["gathering", "failed"]
    assert "shorten the names of its 4000 classes" in run.run.state().reason
    for call in (lambda: run.run.plan, lambda: run.run.stem):
        with refused(ErrorCode.RUN_FAILED, "shorten the names"):
            call()
    run.restart()
    assert run.run.state().phase is Phase.FAILED


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"height": 17, "width": 31}, "images of 17 x 31 pixels; vgg16 takes 28 to 224 a side; set side_px"),
        ({"height": 256, "width": 256}, "images of 256 x 256 pixels"),
        ({"height": 512, "width": 512}, "images of 512 x 512 pixels"),
    ],
)
def test_a_site_whose_pictures_fit_no_network_is_refused_when_it_joins(
    small_run: SmallRun, changes: dict[str, int], text: str
) -> None:
    small_run.join_compute()
    with refused(ErrorCode.IMAGES_UNFIT, text):
        small_run.join_site("north", **changes)
    assert small_run.phases == ["gathering"]
    for site in SITES:
        small_run.join_site(site)  # with pictures of another size the same site is let in
    assert small_run.phases[-1] == "setup"


def test_settings_that_fit_no_site_are_said_to_each_when_it_joins(
    start_run: Callable[..., SmallRun], tmp_path: Path
) -> None:
    run = start_run(settings_in(tmp_path, morph=MorphSettings(preset="paper", kappa=9)))
    with refused(ErrorCode.IMAGES_UNFIT, "kappa = 9 does not divide the unrolled length 784; near it 4, 7, 8, 14 do"):
        run.join_site("north")


def test_a_layer_beyond_the_coordinators_memory_is_said_when_a_site_joins(
    small_run: SmallRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mple.machine.memory_bytes", lambda: 1000)
    with refused(ErrorCode.IMAGES_UNFIT, "with a site's layer under review: needs .* this machine has"):
        small_run.join_site("north")


@pytest.mark.parametrize("patients", ["", "APART", "apart ", "x\x1b"])
def test_a_word_on_patients_that_is_none_is_refused(small_run: SmallRun, patients: str) -> None:
    with refused(ErrorCode.MESSAGE_MALFORMED, "use unknown, apart, shared"):
        small_run.join_site("north", patients=patients)


def test_the_plan_tells_what_each_site_says_of_its_patients(small_run: SmallRun) -> None:
    small_run.join_compute()
    for site, patients in zip(SITES, ("apart", "shared", "unknown"), strict=True):
        small_run.join_site(site, patients=patients)
    assert [site.patients for site in small_run.run.plan.sites] == ["apart", "shared", "unknown"]


def test_joining_again_is_allowed_in_every_phase(small_run: SmallRun) -> None:
    for do in steps_in_site_custody():
        do(small_run)
        small_run.join_site("north")
    small_run.join_compute()
    assert small_run.story() == FINISHED


def test_an_envelope_that_comes_again_still_counts_and_another_does_not(small_run: SmallRun) -> None:
    """A call is repeated when its answer was lost: its site must not take that for a secret drawn a second time."""
    for do in itertools.islice(steps_in_site_custody(), len(SITES) + 2):
        do(small_run)
    asked = sealed_for("site/south")
    assert small_run.run.put_sealed(NORTH, asked)
    asked.envelope = b"another secret"
    assert not small_run.run.put_sealed(NORTH, asked)


def test_calls_that_need_a_plan_wait_for_it(small_run: SmallRun) -> None:
    small_run.join_site("north")
    for call in (
        lambda: small_run.run.put_sealed(NORTH, sealed_for("site/south")),
        lambda: small_run.run.stem_file(bytes(32)),
        lambda: small_run.run.report_layers_stored(coordinator_pb2.LayersStored()),
        lambda: small_run.epoch(1),
        lambda: small_run.trained(),
    ):
        with refused(ErrorCode.WRONG_PHASE):
            call()
    assert small_run.story() == ["joined site/north"]


def test_failure_after_the_end_changes_nothing(small_run: SmallRun) -> None:
    for do in steps_in_site_custody():
        do(small_run)
    small_run.run.report_failure(NORTH, coordinator_pb2.Failure(text="fire"))
    assert small_run.story() == FINISHED
