"""Settings and command of the CHEETAH measurement, short of SPU itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from comparison.elsewhere import cheetah
from comparison.elsewhere.cheetah import CheetahSettings, cifar10_pictures
from comparison.networks.small import small_network
from mple.data import default_data_folder


@pytest.mark.parametrize(
    "wrong",
    [
        {"inferences": 0},
        {"threads": 0},
        {"fraction_bits": 7},
        {"fraction_bits": 25},
        {"time_limit_s": 0.0},
        {"memory_limit_bytes": 0},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CheetahSettings(**wrong)


def test_a_network_that_is_not_there_is_wrong_usage(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        cheetah.main(["--network", str(tmp_path / "none.safetensors"), "--out", str(tmp_path / "row.json")])
    assert end.value.code == 2 and "no quantised network" in capsys.readouterr().err
    assert not (tmp_path / "row.json").exists()


def test_pictures_need_a_side_that_divides_theirs() -> None:
    with pytest.raises(ValueError, match="12 pixels"):
        cifar10_pictures(1, 12)


def test_without_a_network_the_row_is_skipped_with_its_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not (default_data_folder() / "cifar10").exists():
        pytest.skip("CIFAR-10 has not been fetched")
    small_network().save(tmp_path / "small.safetensors")
    monkeypatch.setenv("MPLE_ENVIRONMENTS", str(tmp_path / "environments"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    arguments = ["--network", str(tmp_path / "small.safetensors"), "--out", str(tmp_path / "row.json")]
    assert cheetah.main(arguments) == 0
    row = json.loads((tmp_path / "row.json").read_text())
    assert (row["system"], row["state"], row["reason"]) == ("cheetah", "skipped", "no wheel")
    assert row["detail"].startswith("small: ")
