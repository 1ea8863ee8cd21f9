"""The run plan's canonical text, its hash, and what is no plan."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from mple.plan import (
    Custody,
    ModelSettings,
    MorphSettings,
    NoiseShape,
    NormalisationSettings,
    PlanError,
    PrivacyMode,
    PrivacySettings,
    RunPlan,
    SitePlan,
    TrainingSettings,
    WireSettings,
)

PLAN = RunPlan(
    run_id="a1b2c3",
    consortium="ward",
    compute="compute",
    channels=3,
    height=32,
    width=32,
    classes=("gesund", "krank", "köder"),
    sites=(
        SitePlan(name="north", train_images=30, test_images=5, key_epoch=1, key_fingerprint="0a" * 32),
        SitePlan(name="south", train_images=20, test_images=0, key_epoch=2, key_fingerprint="0b" * 32),
    ),
    custody=Custody.SITE,
    stem_digest="0c" * 32,
    morph=MorphSettings(),
    wire=WireSettings(codec="q8"),
    model=ModelSettings(),
    training=TrainingSettings(),
    normalisation=NormalisationSettings(),
)


def changed(**changes: Any) -> bytes:
    """The plan's text with fields of its top level replaced; None takes a field out."""
    raw = {**json.loads(PLAN.to_json()), **changes}
    return json.dumps({key: value for key, value in raw.items() if value is not None}).encode()


def test_the_hash_is_golden() -> None:
    """All parties compare it: it may change with the protocol's version only."""
    assert PLAN.sha256().hex() == "72deaac672edfec133044068497d0254fd90d22c430916da0e4d0617671e8c24"


def test_the_text_is_canonical() -> None:
    text = PLAN.to_json()
    raw = json.loads(text)
    assert text == json.dumps(raw, sort_keys=True, separators=(",", ":")).encode()
    again = RunPlan.from_json(json.dumps(dict(reversed(raw.items())), indent=3).encode())
    assert again.to_json() == text


def test_a_plan_reads_back_equal() -> None:
    assert RunPlan.from_json(PLAN.to_json()) == PLAN
    other = dataclasses.replace(PLAN, morph=MorphSettings(preset="paper", kappa=3), custody=Custody.ESCROW)
    assert RunPlan.from_json(other.to_json()) == other


@pytest.mark.parametrize(
    "changes",
    [
        {"run_id": "a1b2c4"},
        {"classes": ("krank", "gesund", "köder")},
        {"sites": PLAN.sites[::-1]},
        {"custody": Custody.ESCROW},
        {"training": TrainingSettings(seed=2)},
        {"wire": WireSettings(releases=5)},
        {"normalisation": NormalisationSettings(mean=(0.500001,))},
        {"privacy": PrivacySettings(mode=PrivacyMode.NOISE)},
    ],
)
def test_every_change_changes_the_hash(changes: dict[str, Any]) -> None:
    assert dataclasses.replace(PLAN, **changes).sha256() != PLAN.sha256()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "no run plan"),
        (b"[]", "no run plan"),
        (b"\xff", "no run plan"),
        (b"null", "no run plan"),
        (PLAN.to_json()[:-1], "no run plan"),
        (changed(extra=1), "unknown key extra"),
        (changed(run_id=None), "run_id is missing"),
        (changed(privacy=None), "privacy is missing"),
        (changed(channels="3"), "channels = '3' is not a whole number"),
        (changed(channels=0), "channels = 0"),
        (changed(protocol=2), "protocol 2"),
        (changed(sites=[]), "needs one at least"),
        (changed(sites=[dataclasses.asdict(PLAN.sites[0])] * 2), "each once"),
        (changed(sites=["north"]), "sites"),
        (changed(classes=["only"]), "has 1 classes"),
        (changed(custody="nobody"), "choose one of site, escrow"),
        (changed(training={"epochs": 0}), "allowed are 1 to 10000"),
        (changed(morph={"preset": "paper", "kappa": 5}), "does not divide"),
        (changed(normalisation={"mean": [0.1, 0.2], "std": [1.0, 1.0]}), "2 means for 3 channels"),
        (changed(wire={"codec": "q8", "secret": 1}), "unknown key wire.secret"),
    ],
)
def test_what_is_no_plan_is_refused(text: bytes, reason: str) -> None:
    with pytest.raises(PlanError) as fault:
        RunPlan.from_json(text)
    assert reason in str(fault.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"train_images": 0},
        {"test_images": -1},
        {"key_epoch": 0},
        {"key_fingerprint": "0a" * 31},
        {"key_fingerprint": "no hexadecimal"},
    ],
)
def test_a_site_out_of_range_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(PlanError):
        RunPlan.from_json(changed(sites=[{**dataclasses.asdict(PLAN.sites[0]), **changes}]))


def test_a_plan_says_all_of_its_noise() -> None:
    privacy = PrivacySettings(mode=PrivacyMode.NOISE, shape=NoiseShape.ISOTROPIC, budget_bits=3)
    noisy = dataclasses.replace(PLAN, privacy=privacy)
    assert json.loads(noisy.to_json())["privacy"] == {"mode": "noise", "shape": "isotropic", "budget_bits": 3}
    assert RunPlan.from_json(noisy.to_json()) == noisy


@pytest.mark.parametrize(
    ("privacy", "reason"),
    [
        ({"mode": "noise", "budget_bits": 0}, "allowed are above 0 to 1e6"),
        ({"mode": "noise", "budget_bits": float("nan")}, "allowed are above 0 to 1e6"),
        ({"mode": "some"}, "choose one of none, noise"),
        ({"mode": "noise", "shape": "round"}, "choose one of isotropic, covariance"),
        ({"budget_bits": 8}, 'would protect nothing; set mode = "noise"'),
        ({"shape": "isotropic"}, 'would protect nothing; set mode = "noise"'),
    ],
)
def test_privacy_settings_that_mean_nothing_are_refused(privacy: dict[str, Any], reason: str) -> None:
    with pytest.raises(PlanError) as fault:
        RunPlan.from_json(changed(privacy=privacy))
    assert reason in str(fault.value)


def test_a_site_is_found_by_name() -> None:
    assert PLAN.site("south") is PLAN.sites[1]
    with pytest.raises(PlanError, match="no site 'west'; it has north, south"):
        PLAN.site("west")


def test_what_follows_from_a_plan() -> None:
    assert (PLAN.geometry.blocks, PLAN.geometry.core_side, PLAN.filters) == (16, 192, 64)
    assert PLAN.session == b"a1b2c3"
    assert dataclasses.replace(PLAN, model=ModelSettings(width=0.0625)).filters == 8
