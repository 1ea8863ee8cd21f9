"""`mple-provider run` with several files: what can't be in one process is told before any site begins."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from mple.data import NpzSource
from mple.exit_codes import ExitCode
from mple.plan import SiteSettings, read_settings, write_settings
from mple.rpc import Role
from provider_node.node import main
from tests.support.served import PartyTls

NAMES = ("north", "south", "west")


@pytest.fixture
def configs(tmp_path: Path, party_tls: PartyTls) -> list[Path]:
    """Files of three sites, each with certificates of its own."""
    paths = []
    for name in NAMES:
        folder = tmp_path / name
        shutil.copytree(party_tls(Role.SITE, name).key.parent, folder / "tls")
        settings = SiteSettings(
            state=Path("state"),
            tls=Path("tls"),
            vault=Path("vault"),
            coordinator="127.0.0.1:1",
            compute="127.0.0.1:2",
            data=NpzSource(path=Path("set.npz")),
        )
        paths.append(folder / "site.toml")
        paths[-1].write_text(write_settings(settings), encoding="utf-8")
    return paths


def refused(configs: list[Path], capsys: pytest.CaptureFixture[str]) -> str:
    """What is said; nobody has begun."""
    assert main(["run", *map(str, configs)]) == ExitCode.BAD_USAGE
    assert not list(configs[0].parent.parent.glob("*/state/*"))
    return capsys.readouterr().err


def change(config: Path, **changes: object) -> None:
    settings = dataclasses.replace(read_settings(SiteSettings, config), **changes)
    config.write_text(write_settings(settings), encoding="utf-8")


@pytest.mark.parametrize("name", ["state", "vault", "tls"])
def test_two_sites_with_the_same_folder(configs: list[Path], name: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = configs[0].parent / name
    change(configs[2], **{name: folder / ".." / name})
    said = refused(configs, capsys)
    assert f"{configs[0]} and {configs[2]} have the same {name} = {folder}" in said
    assert "each site needs its own" in said


def test_two_sites_with_the_same_certificate_in_two_places(
    configs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(configs[0].parent / "tls", configs[1].parent / "tls", dirs_exist_ok=True)
    assert f"{configs[0]} and {configs[1]} are both site north: start each site once" in refused(configs, capsys)


def test_a_file_that_is_given_twice(configs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{configs[0]} is given twice" in refused([configs[0], configs[1], configs[0]], capsys)


def test_a_file_that_is_not_there(configs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    configs[1].unlink()
    assert f"no configuration file at {configs[1]}" in refused(configs, capsys)


def test_other_threads(configs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    change(configs[1], threads=2)
    said = refused(configs, capsys)
    assert f"threads = 1 in {configs[0]}, 2 in {configs[1]}; sites of one process share its threads" in said


def test_each_site_is_told_of_its_own_fault(configs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    """There is no picture at any of them, and no certificate at one."""
    (configs[1].parent / "tls" / "node.crt").unlink()
    assert main(["run", *map(str, configs)]) == ExitCode.BAD_USAGE
    said = capsys.readouterr().err
    for name in ("north", "west"):
        assert f"mple-provider: site {name}: " in said
        assert str(configs[0].parent.parent / name / "set.npz") in said
        log = (configs[0].parent.parent / name / "state" / "log.jsonl").read_text(encoding="utf-8")
        assert str(configs[0].parent.parent / name / "set.npz") in log
        assert ("north" in log, "west" in log) == (name == "north", name == "west")
    assert f"mple-provider: {configs[1]}: no certificate file at" in said
    assert "3 of 3 have not finished; first " in said.splitlines()[-1]
