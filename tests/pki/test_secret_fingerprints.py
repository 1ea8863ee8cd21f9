"""Secrets by their fingerprints: one that is lost, altered or of an older day is refused by name, and none is drawn
again; a backup puts back what was used, and nothing else."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mple.exit_codes import ExitCode
from mple.pki import Vault, VaultDamagedError, VaultError, back_up, restore

SECRET = bytes(range(32))
NAMES = ("morph.key", "morph-2.key", "consortium-run1.key", "noise.key")
READ: dict[str, Callable[[Vault], object]] = {
    "morph.key": lambda vault: vault.morph_key(1),
    "morph-2.key": lambda vault: vault.morph_key(),
    "consortium-run1.key": lambda vault: vault.consortium_secret("run1"),
    "noise.key": lambda vault: vault.noise_secret(),
}
PASSPHRASES = (None, "words")


def full(folder: Path, passphrase: str | None = None) -> Vault:
    vault = Vault(folder, passphrase)
    vault.morph_key()
    vault.new_epoch()
    vault.keep_consortium_secret("run1", SECRET)
    vault.noise_secret()
    return vault


def changed(content: bytes, at: int) -> dict[str, bytes]:
    flipped = content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]
    return {"bit": flipped, "cut": content[:-1], "zeros": bytes(len(content))}


def test_the_record_holds_hashes_of_domain_name_and_secret(tmp_path: Path) -> None:
    vault = full(tmp_path / "vault")
    found = json.loads((tmp_path / "vault" / "keys.json").read_bytes())["secrets"]
    assert found == {
        name: hashlib.sha256(b"mple/v1/secret\0" + name.encode() + b"\0" + secret).hexdigest()
        for name, secret in (("consortium-run1.key", SECRET), ("noise.key", vault.noise_secret()))
    }


@pytest.mark.parametrize("passphrase", PASSPHRASES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", ["bit", "cut", "zeros", "gone", "older"])
def test_a_damaged_secret_is_refused_by_name_and_stays(
    tmp_path: Path, name: str, damage: str, passphrase: str | None
) -> None:
    vault = full(tmp_path / "vault", passphrase)
    path, secrets = tmp_path / "vault" / name, vault.contents()
    before = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "older":  # of another vault
        full(tmp_path / "other", passphrase)
        shutil.copy(tmp_path / "other" / name, path)
        if name == "consortium-run1.key":
            path.write_bytes(before[:-1] + bytes([before[-1] ^ 128]))
    else:
        path.write_bytes(changed(before, 7)[damage])
    left = path.read_bytes() if path.exists() else None
    with pytest.raises(VaultDamagedError, match=name.replace(".", r"\.")) as caught:
        READ[name](Vault(tmp_path / "vault", passphrase))
    assert (caught.value.code, "mple keys restore" in caught.value.fix) == (ExitCode.DAMAGED, True)
    assert (path.read_bytes() if path.exists() else None) == left, "nothing is drawn in its place"
    path.write_bytes(before)
    path.chmod(0o600)
    assert Vault(tmp_path / "vault", passphrase).contents() == secrets


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", ["bit", "gone"])
def test_a_backup_puts_a_damaged_secret_back(tmp_path: Path, name: str, damage: str) -> None:
    vault = full(tmp_path / "vault")
    secrets = vault.contents()
    back_up(vault, tmp_path / "backup", "words")
    path = tmp_path / "vault" / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(secrets[name][:-1] + bytes([secrets[name][-1] ^ 1]))
    restore(Vault(tmp_path / "vault"), tmp_path / "backup", "words")
    assert Vault(tmp_path / "vault").contents() == secrets


@pytest.mark.parametrize("name", NAMES)
def test_a_backup_with_another_secret_is_refused_by_name(tmp_path: Path, name: str) -> None:
    vault, other = full(tmp_path / "vault"), Vault(tmp_path / "other")
    other.morph_key()
    other.new_epoch()
    other.keep_consortium_secret("run1", bytes(32))
    other.noise_secret()
    for one in NAMES:
        if one != name:
            (tmp_path / "other" / one).unlink()
    (tmp_path / "other" / "keys.json").unlink()
    back_up(Vault(tmp_path / "other"), tmp_path / "backup", "words")
    (tmp_path / "vault" / name).unlink()
    with pytest.raises(VaultDamagedError, match=rf"{name} is another secret .* than the one that was used"):
        restore(Vault(tmp_path / "vault"), tmp_path / "backup", "words")
    assert not (tmp_path / "vault" / name).exists()
    assert vault.epochs()


def test_no_noise_is_drawn_where_pictures_have_left_under_it(tmp_path: Path) -> None:
    with pytest.raises(VaultDamagedError, match=r"noise\.key is gone, and pictures have left"):
        Vault(tmp_path / "vault").noise_secret(new=False)
    assert not (tmp_path / "vault" / "noise.key").exists()


def test_a_secret_that_nothing_rests_on_can_be_withdrawn(tmp_path: Path) -> None:
    vault = full(tmp_path / "vault")
    vault.withdraw_consortium_secret("run1")
    with pytest.raises(VaultError, match="no consortium secret of run run1"):
        vault.consortium_secret("run1")
    vault.keep_consortium_secret("run1", bytes(32))
    assert vault.consortium_secret("run1") == bytes(32)


@pytest.mark.parametrize("damage", ["bit", "cut", "zeros"])
def test_damaged_records_are_refused(tmp_path: Path, damage: str) -> None:
    full(tmp_path / "vault")
    path = tmp_path / "vault" / "keys.json"
    before = path.read_bytes()
    at = before.index(b"consortium-run1") + 30
    path.write_bytes(changed(before, at)[damage])
    with pytest.raises(VaultDamagedError, match=r"keys\.json is damaged"):
        Vault(tmp_path / "vault")
