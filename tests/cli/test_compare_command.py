"""`mple compare` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from comparison.command import quantised_network
from comparison.networks import small_network
from mple.exit_codes import ExitCode
from tests.support.typed_command import Said


def test_a_comparison_leaves_figures_tables_and_a_page(mple: Said, tmp_path: Path) -> None:
    out = tmp_path / "out"
    network = tmp_path / "n.safetensors"
    small_network(seed=7).save(network)
    code, text, complaints = mple(
        *("compare", "--network", network, "--rows", "plain,minionn", "--inferences", "2", "--out", out)
    )
    assert (code, complaints) == (ExitCode.DONE, "")
    assert "MiniONN" in text and "equal" in text
    told = json.loads((out / "comparison.json").read_bytes())
    assert [(row["method"], row["inferences"], row["logits_equal"]) for row in told["rows"]] == [
        ("plain", 2, True),
        ("minionn", 2, True),
    ]
    assert "## What each party learns" in (out / "comparison.md").read_text()
    assert "What each party learns</h2>" in (out / "comparison.html").read_text()
    assert (out / "minionn" / "client" / "state" / "ledger.sqlite").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--network", "resnet"], "'resnet' is no file; choose one of minionn, vgg16, small, or name a file"),
        (["--network", "small", "--rows", "plain,delphi"], "rows delphi; choose from plain, compact, paper, gazelle"),
        (["--network", "small", "--inferences", "0"], "inferences = 0; allowed are 1 to"),
        (["--network", "vgg16"], "name the folder of a finished simulation on CIFAR-10 with --run"),
        (["--network", "torn.safetensors"], "holds no quantised network"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_mistakes_get_a_sentence(
    mple: Said, arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLE_DATA", str(tmp_path))
    (tmp_path / "torn.safetensors").write_bytes(b"no")
    code, _, complaints = mple("compare", *arguments, "--out", "out")
    assert code == ExitCode.BAD_USAGE
    assert words in complaints.replace("\n", " ")


def test_a_network_has_a_name_or_is_in_a_file(tmp_path: Path) -> None:
    other = small_network(seed=7)
    other.save(tmp_path / "n.safetensors")
    pixels = np.random.default_rng(1).integers(0, 256, (2, 3, 8, 8)).astype(np.uint8)
    for name, network in (("small", small_network()), (str(tmp_path / "n.safetensors"), other)):
        assert np.array_equal(quantised_network(name, None).run(pixels), network.run(pixels))
    assert not np.array_equal(small_network().run(pixels), other.run(pixels))
