"""What a plan protects from, in one line, and that the line follows the plan."""

from __future__ import annotations

import dataclasses

import pytest

from mple.morph import Cores
from mple.plan import Custody, MorphSettings, NoiseShape, PrivacyMode, PrivacySettings
from mple.privacy import pairs_that_open, protection
from tests.support.small_plan import small_plan


@pytest.mark.parametrize(
    ("morph", "pairs"),
    [
        (MorphSettings(preset="paper"), 3072),
        (MorphSettings(preset="paper", kappa=3), 1024),
        (MorphSettings(preset="paper", kappa=3, cores=Cores.IDENTICAL), 342),
        (MorphSettings(preset="paper", kappa=12, cores=Cores.IDENTICAL), 22),
        (MorphSettings(preset="paper", kappa=48, cores=Cores.IDENTICAL), 2),
        (MorphSettings(preset="paper", kappa=96, cores=Cores.IDENTICAL), 1),
        (MorphSettings(preset="compact"), 12),
        (MorphSettings(preset="distinct"), 192),
    ],
)
def test_known_pairs_that_open_a_site(morph: MorphSettings, pairs: int) -> None:
    """The paper's D-T pairs: ceil(q / κ) where cores are identical, q where they are distinct."""
    plan = small_plan(channels=3, side_px=32, morph=morph)
    assert pairs_that_open(plan) == pairs
    known = f"{pairs:,} pictures known" if pairs > 1 else "a single picture known"
    assert f"; {known} with" in protection(plan)


@pytest.mark.parametrize(
    ("preset", "said"), [("compact", "which open them"), ("paper", "blurred ones"), ("mole", "no attack of the lab")]
)
def test_what_statistics_open_is_said(preset: str, said: str) -> None:
    assert said in protection(small_plan(channels=3, side_px=32, morph=MorphSettings(preset=preset)))


def test_plain_morphing_claims_nothing_against_the_parties() -> None:
    plan = small_plan()
    line = protection(plan)
    assert "\n" not in line
    assert "the compute node, which holds the layers and the first convolution, recovers every picture." in line
    assert "coordinator" not in line and "bits" not in line
    escrow = protection(dataclasses.replace(plan, custody=Custody.ESCROW))
    assert "the coordinator holds the morph keys" in escrow


@pytest.mark.parametrize("shape", NoiseShape)
def test_noise_is_named_with_its_budget(shape: NoiseShape) -> None:
    privacy = PrivacySettings(mode=PrivacyMode.NOISE, shape=shape, budget_bits=12.5)
    line = protection(dataclasses.replace(small_plan(), privacy=privacy))
    assert f"only under {shape} noise: all other parties together get at most 12.5 bits of each," in line
