"""Who may join with what: every refusal of the registry, by itself and against another site."""

from __future__ import annotations

import re
from typing import Any

import pytest

from coordinator.memory.registry import (
    Registry,
    check_expected,
    check_ranks,
    check_site_profile,
    check_stem_digest,
    check_task,
    check_version,
    check_weights_digest,
)
from coordinator.memory.state_file import StateFile
from mple.plan import ModelSettings, RunSettings, TaskKind, WeightsFrom
from mple.rpc import ErrorCode, MpleError, Party, Role
from mple.v1 import common_pb2, coordinator_pb2
from tests.support.small_plan import key_of
from tests.support.small_run import CLASSES, COMPUTE, SITES, refused, site_party, site_profile

NORTH = site_party("north")


def key_ref(**changes: Any) -> common_pb2.KeyRef:
    fields = {"site": "north", "epoch": 1, "fingerprint": key_of("north").fingerprint(), **changes}
    return common_pb2.KeyRef(**fields)


@pytest.mark.parametrize("version", [3, 4, 99])
def test_newer_parties_are_let_in(version: int) -> None:
    check_version(version)


def test_older_protocol_is_refused() -> None:
    with refused(ErrorCode.PROTOCOL_VERSION, "speaks 2, the coordinator 3"):
        check_version(2)


def test_unknown_parties_are_refused_by_name() -> None:
    run = RunSettings(sites=SITES)
    check_expected(NORTH, run)
    check_expected(COMPUTE, run)
    with refused(ErrorCode.UNKNOWN_PARTY, "site/east; the run has the sites north, south, west"):
        check_expected(site_party("east"), run)
    with refused(ErrorCode.UNKNOWN_PARTY, "compute/other; the run has compute/compute"):
        check_expected(Party("test", Role.COMPUTE, "other"), run)


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"key_ref": key_ref(site="south")}, ErrorCode.UNKNOWN_KEY_REF, "names a key of site 'south'"),
        ({"key_ref": key_ref(epoch=0)}, ErrorCode.UNKNOWN_KEY_REF, "key epoch 0"),
        ({"key_ref": key_ref(fingerprint=bytes(31))}, ErrorCode.UNKNOWN_KEY_REF, "fingerprint of 31 bytes"),
        ({"channels": 0}, ErrorCode.MESSAGE_MALFORMED, "0 x 28 x 28"),
        ({"channels": 65}, ErrorCode.MESSAGE_MALFORMED, "1 to 64 channels"),
        ({"height": 0}, ErrorCode.MESSAGE_MALFORMED, "1 x 0 x 28"),
        ({"width": 4097}, ErrorCode.MESSAGE_MALFORMED, "sides of 1 to 4096"),
        ({"classes": ("one",)}, ErrorCode.MESSAGE_MALFORMED, "1 class names"),
        ({"classes": ("same", "same")}, ErrorCode.MESSAGE_MALFORMED, "2 class names"),
        ({"classes": ("", "other")}, ErrorCode.MESSAGE_MALFORMED, "use 1 to 200 that can be printed"),
        ({"classes": ("x" * 201, "other")}, ErrorCode.MESSAGE_MALFORMED, "use 1 to 200 that can be printed"),
        ({"classes": ("a\x1b[2J", "other")}, ErrorCode.MESSAGE_MALFORMED, "use 1 to 200 that can be printed"),
        ({"classes": ("other\u202e", "other")}, ErrorCode.MESSAGE_MALFORMED, "use 1 to 200 that can be printed"),
        ({"train_images": 0}, ErrorCode.EMPTY_SITE, "site/north brings 0 training images"),
        ({"task": "boxes"}, ErrorCode.MESSAGE_MALFORMED, "task 'boxes'; use classes, labels"),
        ({"task": ""}, ErrorCode.MESSAGE_MALFORMED, "task ''"),
        (
            {"task": "labels", "classes": [str(n) for n in range(501)]},
            ErrorCode.MESSAGE_MALFORMED,
            "501 labels of 10 training images; allowed are 500 labels",
        ),
        (
            {"task": "labels", "classes": [str(n) for n in range(500)], "train_images": 500_001},
            ErrorCode.MESSAGE_MALFORMED,
            "500 labels of 500001 training images",
        ),
    ],
)
def test_profile_that_can_not_be_is_refused(changes: dict[str, Any], code: ErrorCode, text: str) -> None:
    with refused(code, text):
        check_site_profile(site_profile("north", **changes), NORTH, None)


def test_site_without_test_images_is_let_in() -> None:
    check_site_profile(site_profile("north", test_images=0), NORTH, ("south", site_profile("south")))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"height": 29},
            "site north has images of 1 x 29 x 28 .channels x height x width., site south has 1 x 28 x 28",
        ),
        ({"channels": 3}, "3 x 28 x 28"),
        ({"classes": ("benign", "unclear")}, "site north against site south: class 1: 'unclear' against 'malignant'"),
        ({"classes": ("malignant", "benign")}, "class 0: 'malignant' against 'benign'"),
        ({"classes": (*CLASSES, "unclear")}, "3 classes against 2"),
    ],
)
def test_schema_that_differs_from_another_site_is_refused(changes: dict[str, Any], text: str) -> None:
    with refused(ErrorCode.SCHEMA_MISMATCH, text):
        check_site_profile(site_profile("north", **changes), NORTH, ("south", site_profile("south")))


def test_a_site_must_have_data_for_the_runs_task() -> None:
    check_task(site_profile("north"), NORTH, TaskKind.CLASSES)
    check_task(site_profile("north", task="labels"), NORTH, TaskKind.LABELS)
    with refused(ErrorCode.SCHEMA_MISMATCH, "site/north are for a task of labels, the run has task.kind = classes"):
        check_task(site_profile("north", task="labels"), NORTH, TaskKind.CLASSES)
    with pytest.raises(MpleError) as fault:
        check_task(site_profile("north"), NORTH, TaskKind.LABELS)
    assert fault.value.fix == (
        'set task.kind = "classes" in the coordinator\'s file, or give the site data with a column for each label'
    )


def test_stem_digest_must_match_what_was_offered() -> None:
    seeded, offered = ModelSettings(), ModelSettings(stem="offered")
    none, some = coordinator_pb2.ComputeProfile(), coordinator_pb2.ComputeProfile(stem_digest=bytes(32))
    check_stem_digest(none, seeded, None)
    check_stem_digest(some, offered, bytes(32))
    for profile, model, kept in (
        (some, seeded, None),
        (none, offered, None),
        (none, offered, bytes(32)),
        (some, offered, None),
        (some, offered, b"1" * 32),
    ):
        with refused(ErrorCode.STEM_REJECTED):
            check_stem_digest(profile, model, kept)


@pytest.mark.parametrize(
    ("digest", "weights", "text"),
    [
        (b"", "features", "joins with none.*set weights_file"),
        (bytes(31), "network", "a digest has 32 bytes"),
        (bytes(32), "seed", 'weights = "seed"; the compute node joins with 0000'),
    ],
)
def test_a_digest_of_weights_goes_with_weights_from_a_file(digest: bytes, weights: str, text: str) -> None:
    with pytest.raises(MpleError) as caught:
        check_weights_digest(
            coordinator_pb2.ComputeProfile(weights_digest=digest), ModelSettings(weights=WeightsFrom(weights))
        )
    assert caught.value.code is ErrorCode.WEIGHTS_REJECTED
    assert re.search(text, f"{caught.value} {caught.value.fix}")


@pytest.mark.parametrize(
    ("planned", "joined", "way_out"),
    [
        (2, 1, "start it with torchrun --nproc-per-node=2 -m compute_node serve, or set training.ranks = 1 in"),
        (1, 3, "start it without torchrun, or set training.ranks = 3 in the coordinator's file"),
    ],
)
def test_the_compute_node_joins_with_the_runs_ranks(planned: int, joined: int, way_out: str) -> None:
    check_ranks(coordinator_pb2.ComputeProfile(ranks=planned), planned)
    with pytest.raises(MpleError, match=f"training.ranks = {planned}, the compute node joins with {joined}") as caught:
        check_ranks(coordinator_pb2.ComputeProfile(ranks=joined), planned)
    assert (caught.value.code, way_out in caught.value.fix) == (ErrorCode.RANKS_REJECTED, True)


def test_joining_again_is_allowed_only_with_the_same_content(state_file: StateFile) -> None:
    registry = Registry(state_file)
    assert registry.admit(NORTH, site_profile("north"), b"first certificate")
    assert not registry.admit(NORTH, site_profile("north"), b"first certificate")
    with refused(ErrorCode.ALREADY_JOINED, "site/north had another train_images"):
        registry.admit(NORTH, site_profile("north", train_images=11), b"first certificate")
    assert registry.site_profiles() == {"north": site_profile("north")}
    assert registry.site_certificates() == {"site/north": b"first certificate"}


def test_joining_again_renews_the_certificate(state_file: StateFile) -> None:
    """Envelopes are sealed to it: the old one's key may be gone."""
    registry = Registry(state_file)
    registry.admit(NORTH, site_profile("north"), b"first certificate")
    registry.admit(NORTH, site_profile("north"), b"renewed certificate")
    member = registry.member(NORTH.label)
    assert member is not None
    assert member.certificate_der == b"renewed certificate"


def test_profiles_come_in_the_order_asked_for(state_file: StateFile) -> None:
    registry = Registry(state_file)
    for name in ("west", "north"):
        registry.admit(site_party(name), site_profile(name), name.encode())
    assert sorted(registry.site_profiles()) == ["north", "west"]
    assert registry.site_certificates() == {"site/north": b"north", "site/west": b"west"}
    assert registry.member("site/south") is None
