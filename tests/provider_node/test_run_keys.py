"""What a site remembers of its run's keys: enough to join as before and to morph under the key in use."""

from __future__ import annotations

from pathlib import Path

import pytest

from mple.morph import MorphKey
from mple.pki import VaultDamagedError
from provider_node.keys.run_keys import FILE_NAME, RunKeys

FIRST, SECOND, THIRD = ("11" * 32, "22" * 32, "33" * 32)


def begun(folder: Path) -> RunKeys:
    keys = RunKeys(folder)
    keys.begin("run1", 1, FIRST)
    return keys


def test_all_that_is_noted_is_there_after_a_restart(tmp_path: Path) -> None:
    assert RunKeys(tmp_path).kept is None
    keys = begun(tmp_path)
    keys.note_released(1, FIRST)
    keys.note_released(2, SECOND)
    assert keys.note_ready(2, SECOND)
    assert keys.note_revoked(1)
    assert keys.note_erased(1)
    notes = RunKeys(tmp_path).notes
    assert notes == keys.notes
    assert (notes.planned, notes.in_use, notes.released, notes.revoked, notes.erased) == (1, 2, (1, 2), (1,), (1,))
    assert notes.key_ref("north", 2).fingerprint == bytes.fromhex(SECOND)


def test_events_that_come_again_after_a_restart_are_no_news(tmp_path: Path) -> None:
    keys = begun(tmp_path)
    assert not keys.note_ready(1, FIRST)
    assert (keys.note_ready(3, THIRD), keys.note_ready(2, SECOND), keys.note_ready(3, THIRD)) == (True, False, False)
    assert keys.notes.in_use == 3
    keys.note_revoked(1)
    assert (keys.note_revoked(1), keys.note_erased(1), keys.note_erased(1)) == (False, True, False)


def test_joining_the_same_run_again_forgets_nothing_and_another_begins_anew(tmp_path: Path) -> None:
    keys = begun(tmp_path)
    keys.note_ready(2, SECOND)
    keys.begin("run1", 1, FIRST)
    assert keys.notes.in_use == 2
    keys.begin("run2", 2, SECOND)
    assert (keys.notes.planned, keys.notes.in_use, keys.notes.released) == (2, 2, ())
    assert RunKeys(tmp_path).notes.run_id == "run2"


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"run_id": "a"}'])
def test_damaged_notes_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"run-keys\.json is damaged"):
        RunKeys(tmp_path)


def test_a_run_rests_on_the_secrets_that_it_began_with(tmp_path: Path) -> None:
    keys = RunKeys(tmp_path)
    keys.begin("run1", 1, FIRST)
    keys.refuse_lost("consortium-run1.key")
    keys.rest_on("consortium-run1.key", bytes(32))
    keys.rest_on("noise.key", bytes(32))
    again = RunKeys(tmp_path)
    again.rest_on("consortium-run1.key", bytes(32))
    for refused in (
        lambda: again.rest_on("consortium-run1.key", bytes(31) + b"x"),
        lambda: again.require("noise.key", bytes(31) + b"x"),
    ):
        with pytest.raises(VaultDamagedError, match=r"another .* than the one that run run1 rests on"):
            refused()
    with pytest.raises(VaultDamagedError, match=r"the vault's consortium-run1.key is gone; run run1 rests on it"):
        again.refuse_lost("consortium-run1.key")
    again.begin("run2", 1, FIRST)
    again.refuse_lost("consortium-run1.key")
    with pytest.raises(VaultDamagedError, match=r"noise.key"):  # of the site, not of a run
        again.require("noise.key", bytes(31) + b"x")


def test_a_run_rests_on_its_morph_keys(tmp_path: Path) -> None:
    keys, key = RunKeys(tmp_path), MorphKey(bytes(32))
    keys.begin("run1", 1, key.fingerprint().hex())
    assert keys.require_key(key, 1) is key
    assert keys.require_key(MorphKey(bytes(31) + b"x"), 2), "an epoch that the run does not know yet"
    with pytest.raises(VaultDamagedError, match=r"morph key of epoch 1 is .*; run run1 rests on another"):
        keys.require_key(MorphKey(bytes(31) + b"x"), 1)
