"""The vault: secrets that only their owner can read, made once, never replaced, refused when they may be known."""

from __future__ import annotations

import secrets
import stat
from pathlib import Path

import pytest

from mple.pki import Vault, VaultError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "vault"


def modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def test_the_morph_key_is_drawn_once(folder: Path) -> None:
    first = Vault(folder).morph_key()
    assert Vault(folder).morph_key() == first
    assert len(first.seed) == 32
    assert Vault(folder.with_name("another")).morph_key() != first


def test_consortium_secrets_are_kept_by_run(folder: Path) -> None:
    vault = Vault(folder)
    assert not vault.has_consortium_secret("run1")
    one, two = secrets.token_bytes(32), secrets.token_bytes(32)
    vault.keep_consortium_secret("run1", one)
    vault.keep_consortium_secret("run2", two)
    assert Vault(folder).has_consortium_secret("run1")
    assert (Vault(folder).consortium_secret("run1"), Vault(folder).consortium_secret("run2")) == (one, two)


def test_the_noise_secret_is_drawn_once_and_outlives_keys(folder: Path) -> None:
    vault = Vault(folder)
    first = vault.noise_secret()
    assert len(first) == 32
    vault.morph_key()
    vault.new_epoch()
    vault.forget(1)
    assert Vault(folder).noise_secret() == first
    assert Vault(folder.with_name("another")).noise_secret() != first
    assert first not in {vault.morph_key().seed, bytes(32)}
    assert modes(folder) == {0o600}


def test_folder_and_files_are_open_to_their_owner_only(folder: Path) -> None:
    vault = Vault(folder)
    vault.morph_key()
    vault.keep_consortium_secret("run1", bytes(32))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert modes(folder) == {0o600}
    names = {path.name for path in folder.iterdir()}
    assert names == {"morph.key", "consortium-run1.key", "keys.json"}, "no half-written file"


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o701, 0o770])
def test_a_folder_open_to_others_is_refused_and_not_repaired(folder: Path, mode: int) -> None:
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(VaultError, match=f"has mode {mode:04o} and is open to others; consider its keys known"):
        Vault(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == mode


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
@pytest.mark.parametrize("name", ["morph.key", "consortium-run1.key"])
def test_a_file_open_to_others_is_refused_and_not_repaired(folder: Path, name: str, mode: int) -> None:
    vault = Vault(folder)
    vault.morph_key()
    vault.keep_consortium_secret("run1", bytes(32))
    (folder / name).chmod(mode)
    with pytest.raises(VaultError, match=f"{name} has mode {mode:04o} and is open to others"):
        vault.morph_key() if name == "morph.key" else vault.consortium_secret("run1")
    assert stat.S_IMODE((folder / name).stat().st_mode) == mode


@pytest.mark.parametrize("size", [0, 31, 33])
@pytest.mark.parametrize("name", ["morph.key", "consortium-run1.key"])
def test_a_damaged_file_is_refused_and_not_replaced(folder: Path, name: str, size: int) -> None:
    vault = Vault(folder)
    vault.morph_key()
    vault.keep_consortium_secret("run1", bytes(32))
    (folder / name).write_bytes(bytes(size))
    with pytest.raises(VaultError, match=f"holds {size} bytes instead of 32"):
        vault.morph_key() if name == "morph.key" else vault.consortium_secret("run1")
    assert (folder / name).read_bytes() == bytes(size)


def test_another_secret_for_the_same_run_is_refused(folder: Path) -> None:
    vault = Vault(folder)
    vault.keep_consortium_secret("run1", bytes(32))
    vault.keep_consortium_secret("run1", bytes(32))
    with pytest.raises(VaultError, match="another consortium secret of run run1"):
        vault.keep_consortium_secret("run1", bytes(31) + b"\x01")
    assert vault.consortium_secret("run1") == bytes(32)


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_secret_of_another_length_is_refused(folder: Path, size: int) -> None:
    with pytest.raises(VaultError, match=f"has 32 bytes, this one {size}"):
        Vault(folder).keep_consortium_secret("run1", bytes(size))
    assert not Vault(folder).has_consortium_secret("run1")


def test_a_secret_that_is_not_here(folder: Path) -> None:
    with pytest.raises(VaultError, match="no consortium secret of run run1"):
        Vault(folder).consortium_secret("run1")


@pytest.mark.parametrize("run_id", ["", "../morph", "a/b", "a.b", "a b", "a\x00"])
def test_a_run_id_names_no_other_file(folder: Path, run_id: str) -> None:
    """Run ids come from the coordinator."""
    with pytest.raises(VaultError, match="not made of letters and digits"):
        Vault(folder).keep_consortium_secret(run_id, bytes(32))
    assert list(folder.iterdir()) == []


def test_a_key_that_was_half_written_when_the_power_failed_is_drawn_anew(folder: Path) -> None:
    Vault(folder)
    (folder / "morph.key.part").write_bytes(b"half")
    assert len(Vault(folder).morph_key().seed) == 32
    assert {path.name for path in folder.iterdir()} == {"morph.key", "keys.json"}
