"""`mple data fetch` with a configuration, as it is typed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("dicomweb_client")
from mple.cli.data import app
from mple.data import DataError
from mple.plan import SettingsError
from tests.support.pacs import SmallPacs, make_instances, serving, write_table


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    """Of a site with two labelled studies in a PACS."""
    made = make_instances(tmp_path / "made", 2)
    rows = [{"PatientID": one.patient, "label": one.patient} for one in made[::2]]
    write_table(tmp_path / "keys.csv", rows)
    with serving(SmallPacs(made)) as pacs:
        path = tmp_path / "site.toml"
        settings = f'kind = "dicomweb"\npath = "cache"\nurl = "{pacs.url}"\nlabel_file = "keys.csv"\n'
        path.write_text(f'state = "s"\n[data]\n{settings}')
        yield path


def test_it_is_fetched_shown_and_compared(config: Path) -> None:
    cache = config.parent / "cache"
    said = CliRunner().invoke(app, ["fetch", str(config)])
    assert said.exit_code == 0
    assert said.output.startswith(
        f"4 instances are in {cache}, each with its digest in SHA256SUMS; labels in {cache}/labels-"
    )
    assert "P0         2    0     0" in CliRunner().invoke(app, ["show", str(config)]).output
    assert (
        CliRunner()
        .invoke(app, ["fetch", str(config), "--check"])
        .output.startswith(f"{cache} is what http://127.0.0.1")
    )
    sums = cache / "SHA256SUMS"
    lines = sums.read_text().splitlines(keepends=True)
    sums.write_text("".join([*lines, "0" * 64 + lines[-1][64:]]))
    fault = CliRunner().invoke(app, ["fetch", str(config), "--check"]).exception
    assert isinstance(fault, DataError)
    assert str(fault) == (
        f"1 of 4 instances have changed at the server since they were fetched; {cache} is left as it was: to take all "
        "as it is now, remove it and fetch again"
    )


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        (["cifar10", "--check"], "--check and --set go with a configuration"),
        (["{config}", "--to", "x"], "--to and --from go with cifar10; of a configuration, path in"),
        (["{config}", "--set", "url=1"], "url = 1 is not a text"),
        (["cifar11"], "no configuration file at cifar11"),
    ],
)
def test_what_is_typed_wrong_is_named(config: Path, typed: list[str], text: str) -> None:
    fault = CliRunner().invoke(app, ["fetch", *(word.format(config=config) for word in typed)]).exception
    assert isinstance(fault, SettingsError) and text in str(fault)


def test_files_need_no_fetching(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text('[data]\nkind = "folder"\npath = "slices"\n')
    fault = CliRunner().invoke(app, ["fetch", str(path)]).exception
    assert str(fault) == f'{path} has data of kind = "folder", which are on this machine already'
