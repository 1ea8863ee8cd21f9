"""The `mple` command as it is typed: verbs, exit codes, and one sentence for each mistake."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mple import __version__
from mple.delivered.about import about_network
from mple.exit_codes import ExitCode
from mple.model.settings import ModelSettings
from mple.model.weights import build_trunk, load_trunk, state_sha256
from mple.plan import NormalisationSettings, read_settings
from mple.simulate.settings import SimulationSettings
from tests.support.small_plan import small_plan
from tests.support.torchvision_vgg16 import TorchvisionVgg16, lived_in
from tests.support.typed_command import Said, small_simulation


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return small_simulation(tmp_path)


def test_version_and_verbs(mple: Said) -> None:
    assert mple("--version") == (ExitCode.DONE, f"mple {__version__}\n", "")
    code, text, _ = mple("--help")
    assert code == ExitCode.DONE
    for verb in ("simulate", "report", "plain", "data", "pki", "predict"):
        assert f" {verb} " in text, verb


def test_help_without_a_verb_is_bad_usage(mple: Said) -> None:
    code, text, complaints = mple()
    assert code == ExitCode.BAD_USAGE
    assert "simulate" in text + complaints


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["simlate"], "simlate"),
        (["simulate", "--ot", "x"], "--ot"),
        (["simulate"], "--out"),
        (["simulate", "absent.toml", "--out", "x"], "absent.toml"),
        (["simulate", "--out", "x", "--set", "traning.epochs=1"], "did you mean training?"),
        (["simulate", "--out", "x", "--set", "training.epochs"], "section.key=value"),
        (["report", "nowhere"], "nowhere"),
        (["plain", "--out", "x", "--set", "data.path=nowhere"], "mple data fetch cifar10"),
        (["data", "show"], "configuration"),
        (["pki", "approve", "a.csr", "--authority", "b", "--out", "c"], "a.csr"),
    ],
)
def test_mistakes_get_a_sentence_and_code_2(
    mple: Said, arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said, complaints = mple(*arguments)
    assert code == ExitCode.BAD_USAGE
    assert words in complaints
    sentence, *fix = complaints.splitlines()
    assert sentence.startswith("mple: ")
    assert all(line.startswith("mple: fix: see mple ") for line in fix)
    assert len(fix) <= 1
    assert said == ""
    assert list(tmp_path.iterdir()) == []


def test_check_prints_the_effective_settings_and_makes_nothing(mple: Said, config: Path, tmp_path: Path) -> None:
    code, text, _ = mple("simulate", config, "--check", "--out", tmp_path / "run", "--set", "training.epochs=7")
    assert code == ExitCode.DONE
    shown = tmp_path / "shown.toml"
    shown.write_text(text, encoding="utf-8")
    assert read_settings(SimulationSettings, shown) == read_settings(SimulationSettings, config, ["training.epochs=7"])
    assert not (tmp_path / "run").exists()


def test_single_settings_of_the_default_data_can_be_changed(mple: Said, tmp_path: Path) -> None:
    code, text, _ = mple("simulate", "--check", "--out", "x", "--set", "data.most_train=50")
    assert code == ExitCode.DONE
    assert 'kind = "cifar10"' in text
    assert "most_train = 50\n" in text
    assert "most_test = 667\n" in text


def test_other_data_are_not_cut_down_to_the_default(mple: Said) -> None:
    code, text, _ = mple(
        "simulate", "--check", "--out", "x", "--set", "data.kind=npz", "--set", "data.path=/absent/set.npz"
    )
    assert code == ExitCode.DONE
    assert "most_train" not in text


def test_plain_training_leaves_its_figures_and_its_network(mple: Said, config: Path, tmp_path: Path) -> None:
    code, text, _ = mple("plain", config, "--out", tmp_path / "plain")
    assert code == ExitCode.DONE
    assert [line.split(":")[0] for line in text.splitlines()] == ["epoch 1", "epoch 2", "the network of epoch 2"]
    written = json.loads((tmp_path / "plain" / "summary.json").read_text())
    assert [len(epoch["losses"]) for epoch in written["epochs"]] == [4, 4]
    for epoch in written["epochs"]:
        assert epoch["loss"] == pytest.approx(np.average(epoch["losses"], weights=[7, 8, 7, 8]))
    assert (written["kept_epoch"], written["val_accuracy"], written["epochs"][-1]["val_accuracy"]) == (2, None, None)
    assert 0 <= written["test_accuracy"] <= 1
    trunk = build_trunk(ModelSettings(width=0.0625), 2, 1)
    load_trunk(trunk, tmp_path / "plain" / "model.safetensors")
    assert state_sha256(trunk) == written["model_sha256"]
    again = mple("plain", config, "--out", tmp_path / "again")
    assert again[0] == ExitCode.DONE
    assert json.loads((tmp_path / "again" / "summary.json").read_text())["model_sha256"] == written["model_sha256"]


def test_plain_training_begins_with_weights_of_a_file(mple: Said, config: Path, tmp_path: Path) -> None:
    """At a rate of next to nothing what comes out is the network of the file, which lies beside the settings."""
    network = lived_in(TorchvisionVgg16(batch_norm=True, width=0.0625))
    before = small_plan(channels=3, normalisation=NormalisationSettings(mean=(0.1,), std=(0.2,)))
    about = about_network(before, model_sha256="0a" * 32, epoch=3)
    save_file(network.state_dict(), config.with_name("before.safetensors"), metadata=about.to_metadata())
    chosen = {"weights_file": "before.safetensors", "model.weights": "features", "training.peak_lr": 1e-12}
    code, _, complaints = mple("plain", config, "--out", tmp_path / "seeded", "--set", "model.weights=features")
    assert (code, "weights_file = None" in complaints) == (ExitCode.BAD_USAGE, True)
    sets = [word for name, value in chosen.items() for word in ("--set", f"{name}={value}")]
    code, said, _ = mple("plain", config, "--out", tmp_path / "plain", *sets)
    assert code == ExitCode.DONE
    assert said.startswith("note: the network of run small-run was trained with normalisation.mean = [0.1]")
    trunk = build_trunk(ModelSettings(width=0.0625), 2, 1)
    load_trunk(trunk, tmp_path / "plain" / "model.safetensors")
    torch.testing.assert_close(trunk.features[2].weight, network.features[3].weight, rtol=0, atol=1e-6)


def test_plain_training_spares_a_folder_that_holds_something(mple: Said, config: Path, tmp_path: Path) -> None:
    code, _, complaints = mple("plain", config, "--out", tmp_path)
    assert code == ExitCode.BAD_USAGE
    assert "not empty" in complaints


def test_plain_training_like_no_run_is_refused(mple: Said, config: Path, tmp_path: Path) -> None:
    code, _, complaints = mple("plain", config, "--out", tmp_path / "plain", "--like", tmp_path)
    assert code == ExitCode.BAD_USAGE
    assert "no plan.json" in complaints
    assert not (tmp_path / "plain").exists()
