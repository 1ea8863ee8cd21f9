"""The record of attacks: entries come back, a later one replaces the first, nothing foreign stays."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mple.disk.json_records import record_from_json, record_to_json
from mple.records.attack_results import (
    AttackedWith,
    AttackFigure,
    AttackRecord,
    AttackRecords,
    RecoveredRow,
    keep_attack,
    read_attacks,
)
from tests.support.small_plan import small_plan

PLAN = small_plan()
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
RECORDS = st.builds(
    AttackRecord,
    seconds=NUMBERS,
    why_not=st.text(),
    figures=st.lists(
        st.builds(AttackFigure, value=NUMBERS | st.integers() | st.text() | st.none(), unit=st.text())
    ).map(tuple),
    pictures=st.lists(
        st.builds(
            RecoveredRow,
            ssim_mean=NUMBERS,
            ssim_least=NUMBERS,
            psnr_mean_db=NUMBERS | st.none(),
            share_recognised=NUMBERS,
            share_recovered=NUMBERS,
        )
    ).map(tuple),
    gallery=st.text() | st.none(),
)


def attack(name: str, **changed: object) -> AttackRecord:
    settings = AttackedWith(site="north", pictures=4, seed=1)
    record = AttackRecord(
        name=name, adversary="anyone", claim="all", seconds=1.0, applies=True, public_pictures="none", settings=settings
    )
    return replace(record, **changed)  # type: ignore[arg-type]


@given(RECORDS)
def test_a_record_comes_back(record: AttackRecord) -> None:
    assert record_from_json(AttackRecord, record_to_json(record), "here") == record


def test_an_attack_that_is_run_again_replaces_its_entry(tmp_path: Path) -> None:
    path = tmp_path / "attacks.json"
    for record in (attack("a"), attack("b"), attack("a", seconds=2.0)):
        keep_attack(path, PLAN, record)
    assert read_attacks(path, PLAN).attacks == (attack("a", seconds=2.0), attack("b"))


@pytest.mark.parametrize("text", ["", "[]", '{"run_id": "r"}', '{"run_id": "r", "plan_hash": "h", "attacks": [{}]}'])
def test_a_damaged_record_is_written_anew(tmp_path: Path, text: str) -> None:
    path = tmp_path / "attacks.json"
    path.write_text(text)
    assert read_attacks(path, PLAN).attacks == ()
    keep_attack(path, PLAN, attack("a"))
    assert read_attacks(path, PLAN).attacks == (attack("a"),)


def test_another_runs_attacks_are_none_of_this_ones(tmp_path: Path) -> None:
    path, other = tmp_path / "attacks.json", replace(PLAN, run_id="other")
    keep_attack(path, other, attack("a"))
    assert read_attacks(path, PLAN) == AttackRecords(run_id=PLAN.run_id, plan_hash=PLAN.sha256().hex())
    keep_attack(path, PLAN, attack("b"))
    assert [one["name"] for one in json.loads(path.read_text())["attacks"]] == ["b"]
