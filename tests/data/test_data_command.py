"""`mple data` as it is typed."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mple.cli.data import app
from mple.data import DataError
from mple.plan import SettingsError

EXPECTED = """\
set: 1x4x5, 2 classes
class  train  test
sick       3     1
well       2     1
all        5     2
"""


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "set.npz"
    pixels = np.arange(100, dtype=np.uint8).reshape(5, 4, 5) * 2
    np.savez(path, x_train=pixels, y_train=[0, 1, 0, 1, 0], x_test=pixels[:2], y_test=[0, 1])
    return path


def test_show_by_options(archive: Path) -> None:
    arguments = ["show", "--kind", "npz", "--path", str(archive), "--set", 'classes=["sick","well"]']
    result = CliRunner().invoke(app, arguments)
    assert result.output == EXPECTED
    assert result.exit_code == 0


def test_show_by_configuration(archive: Path) -> None:
    config = archive.with_name("site.toml")
    data = 'kind = "npz"\npath = "set.npz"\nclasses = ["sick", "well"]\nmost_train = 1\n'
    config.write_text(f'state = "s"\n[data]\n{data}')
    assert CliRunner().invoke(app, ["show", str(config), "--set", "most_train=5"]).output == EXPECTED


def test_show_needs_one_of_both(archive: Path) -> None:
    for arguments in (["show"], ["show", "site.toml", "--kind", "npz"]):
        assert isinstance(CliRunner().invoke(app, arguments).exception, SettingsError)


def test_show_refuses_a_configuration_without_data(tmp_path: Path) -> None:
    config = tmp_path / "site.toml"
    config.write_text("[run]\n")
    fault = CliRunner().invoke(app, ["show", str(config)]).exception
    assert "has no section [data]" in str(fault)


def test_fetch_refuses_an_archive_that_is_not_cifar10(archive: Path) -> None:
    arguments = ["fetch", "cifar10", "--to", str(archive.parent / "to"), "--from", str(archive)]
    fault = CliRunner().invoke(app, arguments).exception
    assert isinstance(fault, DataError)
    assert "set.npz" in str(fault)
