"""A vault under a passphrase: nothing readable on the disk, nothing exchangeable, no other passphrase opens it."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from mple.pki import PASSPHRASE_VARIABLE, Vault, VaultError, read_passphrase

WORDS = "correct horse battery staple"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "vault"


def filled(folder: Path, passphrase: str | None) -> Vault:
    vault = Vault(folder, passphrase)
    vault.morph_key()
    vault.keep_consortium_secret("run1", bytes(range(32)))
    vault.new_epoch()
    return vault


def test_secrets_come_back_under_the_same_passphrase_only(folder: Path) -> None:
    first = filled(folder, WORDS)
    again = Vault(folder, WORDS)
    assert again.encrypted
    assert again.contents() == first.contents()
    assert again.consortium_secret("run1") == bytes(range(32))
    with pytest.raises(VaultError, match=r"the passphrase is not the one that .*vault.json was made with"):
        Vault(folder, WORDS + "r")
    with pytest.raises(VaultError, match="is encrypted; set MPLE_VAULT_PASSPHRASE, or vault_passphrase_file"):
        Vault(folder)
    with pytest.raises(VaultError, match="an empty passphrase protects nothing"):
        Vault(folder, "")


def test_no_secret_lies_on_the_disk(folder: Path) -> None:
    vault = filled(folder, WORDS)
    everything = b"".join(path.read_bytes() for path in folder.iterdir())
    for secret in vault.contents().values():
        assert secret not in everything
        assert secret.hex().encode() not in everything
    assert WORDS.encode() not in everything
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_the_header_names_the_cost_and_another_cost_is_refused(folder: Path) -> None:
    filled(folder, WORDS)
    about = json.loads((folder / "vault.json").read_text())
    assert (about["kdf"], about["n"], about["r"], about["p"]) == ("scrypt", 2**15, 8, 1)
    assert len(bytes.fromhex(about["salt"])) == 16
    (folder / "vault.json").write_text(json.dumps({**about, "n": 2}))
    with pytest.raises(VaultError, match="asks for"):
        Vault(folder, WORDS)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"format": 1}'])
def test_a_damaged_header_is_named(folder: Path, content: bytes) -> None:
    filled(folder, WORDS)
    (folder / "vault.json").write_bytes(content)
    with pytest.raises(VaultError, match=r"vault.json is damaged"):
        Vault(folder, WORDS)


@pytest.mark.parametrize("place", [0, 12, -1])
def test_an_altered_secret_does_not_open(folder: Path, place: int) -> None:
    vault = filled(folder, WORDS)
    content = bytearray((folder / "morph.key").read_bytes())
    content[place] ^= 1
    (folder / "morph.key").write_bytes(content)
    with pytest.raises(VaultError, match=r"morph.key does not open: altered, exchanged"):
        vault.morph_key(1)


def test_files_cannot_be_exchanged_for_each_other(folder: Path) -> None:
    vault = filled(folder, WORDS)
    (folder / "morph-2.key").write_bytes((folder / "morph.key").read_bytes())
    with pytest.raises(VaultError, match=r"morph-2.key does not open: altered, exchanged"):
        vault.morph_key()


def test_a_plain_file_does_not_pass_for_an_encrypted_one(folder: Path) -> None:
    vault = filled(folder, WORDS)
    (folder / "morph.key").write_bytes(bytes(32))
    with pytest.raises(VaultError, match="does not open"):
        vault.morph_key(1)


def test_a_vault_that_was_plain_is_encrypted_by_its_first_passphrase(folder: Path) -> None:
    before = filled(folder, None).contents()
    vault = Vault(folder, WORDS)
    assert vault.contents() == before
    everything = b"".join(path.read_bytes() for path in folder.iterdir())
    assert not any(secret in everything for secret in before.values())
    assert {path.suffix for path in folder.iterdir()} == {".key", ".json"}


def test_encrypting_goes_on_after_the_power_failed(folder: Path, tmp_path: Path) -> None:
    """Before the header is there, the plain files count; with it the sealed ones do."""
    before = filled(folder, None).contents()
    (folder / "morph.key.sealed").write_bytes(b"half")
    assert Vault(folder).contents() == before
    plain = (folder / "morph.key").read_bytes()
    Vault(folder, WORDS)
    sealed = (folder / "morph.key").read_bytes()
    (folder / "morph.key").write_bytes(plain)
    (folder / "morph.key.sealed").write_bytes(sealed)
    (folder / "morph.key.sealed").chmod(0o600)
    assert Vault(folder, WORDS).contents() == before
    assert not (folder / "morph.key.sealed").exists()


def test_the_passphrase_comes_from_the_environment_or_a_private_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PASSPHRASE_VARIABLE, raising=False)
    file = tmp_path / "words"
    file.write_text(f"{WORDS}\nnot this\n")
    file.chmod(0o600)
    assert Vault.of(folder, file).encrypted
    with pytest.raises(VaultError, match="is encrypted"):
        Vault.of(folder, None)
    monkeypatch.setenv(PASSPHRASE_VARIABLE, WORDS)
    assert Vault.of(folder, None).encrypted
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "another")
    with pytest.raises(VaultError, match="is not the one"):
        Vault.of(folder, file)


def test_a_passphrase_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "words"
    file.write_text(WORDS)
    file.chmod(0o640)
    with pytest.raises(VaultError, match="words has mode 0640 and is open to others"):
        read_passphrase("MPLE_UNSET", file)
    file.chmod(0o600)
    file.write_text("\n")
    with pytest.raises(VaultError, match="holds no passphrase"):
        read_passphrase("MPLE_UNSET", file)
    with pytest.raises(VaultError, match="can't be read from"):
        read_passphrase("MPLE_UNSET", tmp_path / "none")
