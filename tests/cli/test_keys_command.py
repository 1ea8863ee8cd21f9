"""`mple keys` as it is typed: what it says, what it refuses, and that no secret is ever shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mple.audit import FILE_NAME, read_entries, verify
from mple.cli import main
from mple.cli.keys import BACKUP_VARIABLE
from mple.data import NpzSource
from mple.exit_codes import ExitCode
from mple.pki import PASSPHRASE_VARIABLE, Vault
from mple.plan import SiteSettings, write_settings

Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def keys(capsys: pytest.CaptureFixture[str]) -> Said:
    """Runs `mple keys`: exit code, what it said, what it complained of."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        code = main(["keys", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def site_config(folder: Path) -> Path:
    settings = SiteSettings(
        state=Path("state"),
        tls=Path("tls"),
        vault=Path("vault"),
        coordinator="coordinator:7400",
        compute="compute:7500",
        data=NpzSource(path=Path("set.npz")),
    )
    folder.mkdir(exist_ok=True)
    (folder / "north.toml").write_text(write_settings(settings), encoding="utf-8")
    return folder / "north.toml"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(PASSPHRASE_VARIABLE, raising=False)
    monkeypatch.setenv(BACKUP_VARIABLE, "words of the backup")
    return site_config(tmp_path / "site")


def states(said: str) -> list[tuple[str, str]]:
    rows = [line.split() for line in said.splitlines() if line.startswith("epoch")]
    return [(row[1], row[5]) for row in rows]


def test_a_life_of_keys(keys: Said, config: Path) -> None:
    code, _, complaint = keys("show", config)
    assert (code, "no vault at" in complaint) == (ExitCode.BAD_USAGE, True)
    assert states(keys("new", config)[1]) == [("1", "current")]
    assert states(keys("rotate", config)[1]) == [("1", "kept"), ("2", "current")]
    assert states(keys("rotate", config)[1]) == [("1", "kept"), ("2", "kept"), ("3", "current")]
    assert states(keys("revoke", config, "2", "--yes")[1]) == [("1", "kept"), ("2", "revoked"), ("3", "current")]
    assert states(keys("revoke", config, "--all", "--yes")[1]) == [("1", "revoked"), ("2", "revoked"), ("3", "current")]
    assert states(keys("show", config)[1]) == [("1", "revoked"), ("2", "revoked"), ("3", "current")]
    trail = config.parent / "state" / FILE_NAME
    assert verify(trail).sound
    told = [(entry.what, entry.facts["epoch"]) for entry in read_entries(trail)]
    assert told == [("key_made", 1), ("key_made", 2), ("key_made", 3), ("key_destroyed", 2), ("key_destroyed", 1)]


def test_no_verb_shows_a_secret(keys: Said, config: Path, tmp_path: Path) -> None:
    said = "".join(keys(verb, config)[1] for verb in ("new", "rotate", "show"))
    said += keys("backup", config, tmp_path / "backup")[1]
    for secret in Vault(config.parent / "vault").contents().values():
        assert secret.hex()[:8] not in said


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("new",), "there is a key of epoch 1; to make the next one: mple keys rotate"),
        (("revoke", "1", "--yes"), "epoch 1 is the current key; make the next one first: mple keys rotate"),
        (("revoke", "7", "--yes"), "there never was a key of epoch 7"),
        (("revoke", "--yes"), "name an epoch, or --all for every key but the current one"),
        (("revoke", "1", "--all", "--yes"), "name an epoch, or --all for every key but the current one"),
        (("restore", "nowhere"), "nowhere"),
    ],
)
def test_a_mistake_is_one_sentence(keys: Said, config: Path, arguments: tuple[str, ...], complaint: str) -> None:
    keys("new", config)
    code, _, said = keys(arguments[0], config, *arguments[1:])
    assert code == ExitCode.BAD_USAGE
    assert complaint in said
    assert states(keys("show", config)[1]) == [("1", "current")]


def test_rotating_before_there_is_a_key(keys: Said, config: Path) -> None:
    code, _, said = keys("rotate", config)
    assert (code, "make the first: mple keys new" in said) == (ExitCode.BAD_USAGE, True)


def test_a_backup_comes_back_at_another_place(keys: Said, config: Path, tmp_path: Path) -> None:
    keys("new", config)
    keys("rotate", config)
    assert "2 secrets in" in keys("backup", config, tmp_path / "backup")[1]
    other = site_config(tmp_path / "other")
    assert "2 secrets are in the vault" in keys("restore", other, tmp_path / "backup")[1]
    assert Vault(tmp_path / "other" / "vault").contents() == Vault(config.parent / "vault").contents()
    keys("revoke", config, "1", "--yes")
    assert "left out morph.key: revoked since the backup" in keys("restore", config, tmp_path / "backup")[1]
    third = site_config(tmp_path / "third")
    keys("new", third)
    code, _, said = keys("restore", third, tmp_path / "backup")
    assert (code, "the vault holds other secrets than the backup" in said) == (ExitCode.BAD_USAGE, True)


def test_a_vault_under_a_passphrase(keys: Said, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "open sesame")
    assert "vault: under a passphrase" in keys("new", config)[1]
    monkeypatch.delenv(PASSPHRASE_VARIABLE)
    code, _, said = keys("show", config)
    assert (code, "is encrypted; set MPLE_VAULT_PASSPHRASE" in said) == (ExitCode.BAD_USAGE, True)
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "open says me")
    assert "the passphrase is not the one" in keys("show", config)[2]
