"""`mple privacy plan`: budgets against noise for a site's own pictures, and nothing sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from mple.exit_codes import ExitCode
from tests.support.typed_command import Said, small_simulation


def rows(said: str) -> list[list[str]]:
    cells = (line.split() for line in said.splitlines() if " isotropic " in line or " covariance " in line)
    return [[*row[:6], " ".join(row[6:-1]), row[-1]] for row in cells]


def test_budgets_are_set_against_noise(mple: Said, tmp_path: Path) -> None:
    config = small_simulation(tmp_path, images=80)
    code, said, _ = mple("privacy", "plan", config, "--budget-bits", 400, "--budget-bits", 2)
    assert code == ExitCode.DONE
    table = rows(said)
    assert [row[:2] for row in table] == [
        ["2", "isotropic"],
        ["2", "covariance"],
        ["400", "isotropic"],
        ["400", "covariance"],
    ]
    deviations = [float(row[2]) for row in table]
    assert deviations[0] > deviations[1] > deviations[2] > deviations[3] > 0
    assert float(table[0][3]) < float(table[2][3]), "less noise, nearer to the picture"
    assert float(table[0][4]) < float(table[2][4])
    assert [row[6] for row in table] == [table[0][6], table[0][6], "no bound", "no bound"]
    assert 0 < float(table[0][6].split()[0]) < 100
    plain = float(said.partition("without noise: ")[2].split()[0])
    assert all(float(row[7]) > plain for row in table)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set.npz", "small.toml"]


def test_the_same_pictures_give_the_same_table_by_options_and_one_shape(mple: Said, tmp_path: Path) -> None:
    config = small_simulation(tmp_path, images=80)
    only = ("--budget-bits", 16, "--shape", "covariance")
    _, by_file, _ = mple("privacy", "plan", config, *only)
    _, by_options, _ = mple("privacy", "plan", "--kind", "npz", "--path", tmp_path / "set.npz", *only)
    assert by_file == by_options
    assert len(rows(by_file)) == 1
    _, coarser, _ = mple("privacy", "plan", config, *only, "--set", "wire.codec=k4")
    assert float(rows(coarser)[0][7]) < float(rows(by_file)[0][7])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "name a configuration file, or --kind and --path"),
        (("absent.toml",), "no configuration file at"),
        (("small.toml", "--budget-bits", "0"), "allowed are above 0 to 1e6"),
        (("small.toml", "--set", "data.most_train=2"), "2 training pictures; noise is calibrated on three at least"),
        (("small.toml", "--set", "privacy.mode=noise"), "unknown key privacy"),
        (("set.npz",), "not valid TOML"),
    ],
)
def test_what_can_not_be_planned_is_said(
    mple: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], reason: str
) -> None:
    small_simulation(tmp_path)
    monkeypatch.chdir(tmp_path)
    code, _, complaint = mple("privacy", "plan", *arguments)
    assert code == ExitCode.BAD_USAGE
    assert reason in complaint
