"""The secret of the sample cache: drawn once, kept in the node's vault, and missed by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from compute_node.feeding.cache_key import cache_secret
from compute_node.rank_settings import of_rank
from mple.disk.damage import DamagedError
from mple.exit_codes import ExitCode
from mple.pki.vault import Vault
from mple.pki.vault_cipher import VaultError
from mple.plan import ComputeSettings


def settings_in(folder: Path, vault: Path | None = None) -> ComputeSettings:
    folder.mkdir(exist_ok=True)
    return ComputeSettings(state=folder, tls=folder, listen="a:1", coordinator="a:2", vault=vault)


def test_it_is_drawn_once_and_lies_in_the_vault(tmp_path: Path) -> None:
    settings, cache = settings_in(tmp_path / "state"), tmp_path / "cache"
    secret = cache_secret(settings, cache)
    assert len(secret) == 32
    cache.write_bytes(bytes(100))
    assert cache_secret(settings, cache) == secret == Vault(tmp_path / "state" / "vault").cache_secret(new=False)


def test_each_rank_has_its_own_unless_a_vault_is_named(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "state")
    folders = {of_rank(settings, rank, rank).vault_folder for rank in range(3)}
    assert folders == {tmp_path / "state" / part for part in ("vault", "rank-1/vault", "rank-2/vault")}
    assert of_rank(replace(settings, vault=tmp_path / "v"), 1, 1).vault_folder == tmp_path / "v"


@pytest.mark.parametrize("lost", ["key", "vault"])
def test_one_that_is_gone_is_missed_and_none_is_drawn(lost: str, tmp_path: Path) -> None:
    settings, cache = settings_in(tmp_path / "state"), tmp_path / "cache"
    secret = cache_secret(settings, cache)
    cache.write_bytes(bytes(100))
    key = settings.vault_folder / "cache.key"
    key.unlink()
    if lost == "vault":
        (settings.vault_folder / "keys.json").unlink()
    with pytest.raises(DamagedError, match=r"vault cache\.key is gone, ") as missed:
        cache_secret(settings, cache)
    assert missed.value.code is ExitCode.DAMAGED
    assert f"or remove {settings.vault_folder} and {cache}" in missed.value.fix
    assert not key.exists()
    key.write_bytes(secret)
    key.chmod(0o600)
    assert cache_secret(settings, cache) == secret


def test_another_in_its_place_is_refused_by_its_fingerprint(tmp_path: Path) -> None:
    settings, cache = settings_in(tmp_path / "state"), tmp_path / "cache"
    cache_secret(settings, cache)
    (settings.vault_folder / "cache.key").write_bytes(bytes(32))
    with pytest.raises(DamagedError, match="is another secret"):
        cache_secret(settings, cache)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    settings, cache = settings_in(tmp_path / "state"), tmp_path / "cache"
    cache_secret(settings, cache)
    (settings.vault_folder / "cache.key").chmod(0o644)
    with pytest.raises(VaultError, match="open to others"):
        cache_secret(settings, cache)
