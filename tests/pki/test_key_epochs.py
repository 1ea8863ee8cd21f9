"""Epochs of a site's key: drawn in order, forgotten for ever, and known by fingerprint afterwards; backups of them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from mple.pki import Vault, VaultError, back_up, restore

WORDS = "words"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "vault"


def test_epochs_count_up_and_each_has_its_key(folder: Path) -> None:
    vault = Vault(folder)
    assert (vault.current_epoch(), vault.has_morph_key(), vault.epochs()) == (1, False, ())
    with pytest.raises(VaultError, match="no morph key to follow on"):
        vault.new_epoch()
    first = vault.morph_key()
    assert vault.new_epoch() == 2
    again = Vault(folder)
    assert again.current_epoch() == 2
    assert again.morph_key() == again.morph_key(2) != first
    assert again.morph_key(1) == first
    assert [record.fingerprint for record in again.epochs()] == [
        again.morph_key(epoch).fingerprint().hex() for epoch in (1, 2)
    ]
    with pytest.raises(VaultError, match="the morph key of epoch 3 is not here"):
        again.morph_key(3)


@pytest.mark.parametrize("passphrase", [None, WORDS])
def test_a_forgotten_key_is_gone_and_still_named(folder: Path, passphrase: str | None) -> None:
    vault = Vault(folder, passphrase)
    fingerprint = vault.morph_key().fingerprint().hex()
    with pytest.raises(VaultError, match="epoch 1 is the current key; make the next one first: mple keys rotate"):
        vault.forget(1)
    vault.new_epoch()
    vault.forget(1)
    vault.forget(1)
    assert not (folder / "morph.key").exists()
    with pytest.raises(VaultError, match="the morph key of epoch 1 was revoked at 20"):
        Vault(folder, passphrase).morph_key(1)
    first, second = vault.epochs()
    assert (first.fingerprint, first.revoked is None, second.revoked) == (fingerprint, False, None)
    with pytest.raises(VaultError, match="there never was a key of epoch 7"):
        vault.forget(7)
    assert vault.new_epoch() == 3, "an epoch is never used twice"


def test_a_key_file_is_overwritten_before_it_goes(folder: Path) -> None:
    vault = Vault(folder)
    secret = vault.morph_key().seed
    vault.new_epoch()
    with (folder / "morph.key").open("rb") as held:
        vault.forget(1)
        assert held.read() not in (secret, b"")


def test_forgetting_goes_on_after_the_power_failed(folder: Path) -> None:
    vault = Vault(folder)
    kept = vault.morph_key().seed
    vault.new_epoch()
    vault.forget(1)
    (folder / "morph.key").write_bytes(kept)  # as it was when the power failed behind the record
    (folder / "morph.key").chmod(0o600)
    Vault(folder)
    assert not (folder / "morph.key").exists()


def test_a_lost_key_is_not_silently_replaced(folder: Path) -> None:
    Vault(folder).morph_key()
    (folder / "morph.key").unlink()
    with pytest.raises(VaultError, match=r"morph\.key is gone, the site's newest morph key"):
        Vault(folder).morph_key()


def test_keys_of_a_vault_without_records_are_noted(folder: Path) -> None:
    fingerprint = Vault(folder).morph_key().fingerprint().hex()
    (folder / "keys.json").unlink()
    assert [(one.epoch, one.fingerprint) for one in Vault(folder).epochs()] == [(1, fingerprint)]


@pytest.mark.parametrize("name", ["morph-1.key", "morph-02.key", "morph-.key", "morph-x.key", "morph-٣.key"])
def test_other_names_are_no_keys(folder: Path, name: str) -> None:
    vault = Vault(folder)
    vault.morph_key()
    (folder / name).write_bytes(bytes(32))
    assert vault.current_epoch() == 1


def test_records_that_are_open_to_others_or_damaged_are_refused(folder: Path) -> None:
    Vault(folder).morph_key()
    (folder / "keys.json").chmod(0o644)
    with pytest.raises(VaultError, match=r"keys.json has mode 0644"):
        Vault(folder)
    (folder / "keys.json").chmod(0o600)
    (folder / "keys.json").write_text("{")
    with pytest.raises(VaultError, match=r"keys.json is damaged"):
        Vault(folder)


def made(folder: Path) -> Vault:
    vault = Vault(folder)
    vault.morph_key()
    vault.new_epoch()
    vault.keep_consortium_secret("run1", bytes(32))
    return vault


@pytest.mark.parametrize("passphrase", [None, "of the other vault"])
def test_a_backup_comes_back_whatever_protects_the_vault(folder: Path, tmp_path: Path, passphrase: str | None) -> None:
    vault = made(folder)
    assert back_up(vault, tmp_path / "backup", WORDS) == 3
    everything = (tmp_path / "backup").read_bytes()
    assert not any(secret in everything or secret.hex().encode() in everything for secret in vault.contents().values())
    other = Vault(tmp_path / "other", passphrase)
    assert len(restore(other, tmp_path / "backup", WORDS).taken) == 3
    assert (other.contents(), other.epochs()) == (vault.contents(), vault.epochs())
    assert len(restore(other, tmp_path / "backup", WORDS).taken) == 3, "the same once more changes nothing"


def test_a_backup_does_not_overwrite_other_keys_nor_another_file(folder: Path, tmp_path: Path) -> None:
    back_up(made(folder), tmp_path / "backup", WORDS)
    other = made(tmp_path / "other")
    before = other.contents()
    with pytest.raises(VaultError, match=r"holds other secrets than the backup: morph-2.key, morph.key; restore into"):
        restore(other, tmp_path / "backup", WORDS)
    assert other.contents() == before
    with pytest.raises(VaultError, match="exists; name a new file"):
        back_up(other, tmp_path / "backup", WORDS)


def test_a_revoked_key_does_not_come_back(folder: Path, tmp_path: Path) -> None:
    vault = made(folder)
    back_up(vault, tmp_path / "backup", WORDS)
    vault.forget(1)
    done = restore(vault, tmp_path / "backup", WORDS)
    assert done.revoked == ("morph.key",)
    assert not vault.has_morph_key(1)


def test_a_backup_opens_under_its_own_passphrase_and_unaltered_only(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "backup"
    back_up(made(folder), path, WORDS)
    other = Vault(tmp_path / "other")
    with pytest.raises(VaultError, match="the passphrase is not the one that"):
        restore(other, path, "others")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(VaultError, match="does not open"):
        restore(other, path, WORDS)
    path.write_bytes(b"something else")
    with pytest.raises(VaultError, match="is no backup of a vault"):
        restore(other, path, WORDS)
    assert other.contents() == {}


def test_two_processes_that_change_keys_at_once_lose_nothing(folder: Path) -> None:
    """A running provider notes keys that it finds while a command draws and forgets some."""
    Vault(folder).morph_key()
    stop, faults = threading.Event(), []

    def look() -> None:
        try:
            while not stop.is_set():
                Vault(folder).epochs()
        except Exception as fault:
            faults.append(fault)

    looking = threading.Thread(target=look)
    looking.start()
    for epoch in range(2, 12):
        assert Vault(folder).new_epoch() == epoch
        Vault(folder).forget(epoch - 1)
    stop.set()
    looking.join()
    assert not faults, faults
    records = Vault(folder).epochs()
    assert [record.epoch for record in records] == list(range(1, 12))
    assert [record.epoch for record in records if record.revoked is None] == [11]


def test_the_stamp_changes_with_the_keys_and_with_nothing_else(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "vault")
    vault.morph_key()
    first = vault.stamp()
    assert (vault.current_epoch(), len(vault.epochs()), vault.has_morph_key()) == (1, 1, True)
    assert vault.stamp() == first
    Vault(tmp_path / "vault").new_epoch()
    second = vault.stamp()
    Vault(tmp_path / "vault").forget(1)
    assert len({first, second, vault.stamp()}) == 3
