"""`mple model`: what it says of a delivered network, what it copies, and by which code it ends."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from mple.cli import main
from mple.delivered.card import model_card
from mple.delivered.folder import CARD, ONNX, RECORD, WEIGHTS, DeliveredNetwork, write_delivered
from mple.delivered.onnx_file import network_to_onnx
from mple.delivered.tensor_file import network_to_safetensors
from mple.exit_codes import ExitCode
from tests.support.delivered_record import record_of
from tests.support.trunk_in_secret_order import TrunkInSecretOrder


@pytest.fixture(scope="module")
def made() -> TrunkInSecretOrder:
    return TrunkInSecretOrder(channels=1, side=28)


def deliver(made: TrunkInSecretOrder, state: Path, *, mixed_up: bool = False) -> Path:
    tensors = made.tensors()
    weights = network_to_safetensors(tensors, made.about)
    if mixed_up:
        tensors["classifier.bias"] = tensors["classifier.bias"] + np.float32(1)
    files = {WEIGHTS: weights, ONNX: network_to_onnx(tensors, made.about)}
    record = record_of(made.about, files)
    write_delivered(state / "model", record, {**files, CARD: model_card(record, made.plan).encode()})
    return state


def test_show_says_what_it_is(made: TrunkInSecretOrder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "show", str(deliver(made, tmp_path))]) == ExitCode.DONE
    lines = capsys.readouterr().out.splitlines()
    assert lines[:5] == [
        "VGG-16 of width 0.0625, as it was after epoch 3 of run small-run",
        "delivered to site north on 2026-11-30 00:00 UTC in f32",
        "pictures: 1 x 28 x 28, levels 0 to 255",
        "4 classes: cyst, normal, tumour, unclear",
        "check: unchecked: a test",
    ]
    assert main(["model", "show", str(tmp_path), "--card"]) == ExitCode.DONE
    assert capsys.readouterr().out == (tmp_path / "model" / CARD).read_text()


def test_what_was_exported_is_a_delivered_network(
    made: TrunkInSecretOrder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state, out = deliver(made, tmp_path / "state"), tmp_path / "out"
    assert main(["model", "export", str(state), str(out), "--only", "onnx", "--only", "card"]) == ExitCode.DONE
    assert capsys.readouterr().out == f"model.onnx, model_card.md, model.json in {out}\n"
    assert {path.name for path in out.iterdir()} == {ONNX, CARD, RECORD}
    np.testing.assert_allclose(
        DeliveredNetwork.at(state).plain().logits(made.pixels_BCHW), made.morphed_logits(), atol=1e-4
    )
    assert main(["model", "verify", str(out)]) == ExitCode.DONE
    assert "only one of the two networks is here" in capsys.readouterr().out
    assert main(["model", "export", str(state), str(out)]) == ExitCode.BAD_USAGE
    assert f"{out} is not empty; name a new folder" in capsys.readouterr().err
    assert main(["model", "export", str(state), str(tmp_path / "all")]) == ExitCode.DONE
    assert main(["model", "verify", str(tmp_path / "all")]) == ExitCode.DONE


def test_without_onnxruntime_verify_compares_digests_and_names_the_extra(
    made: TrunkInSecretOrder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    state = deliver(made, tmp_path)
    assert main(["model", "verify", str(state)]) == ExitCode.DONE
    said = capsys.readouterr().out
    assert "model.onnx, model.safetensors: as delivered\n" in said
    assert "needs onnxruntime, which is not installed" in said and "mple[onnx]" in said and "same network" not in said
    (state / "model" / ONNX).write_bytes(b"x")
    assert main(["model", "verify", str(state)]) == ExitCode.DAMAGED


def test_verify_finds_a_changed_byte_and_another_network(
    made: TrunkInSecretOrder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = deliver(made, tmp_path / "sound")
    assert main(["model", "verify", str(state)]) == ExitCode.DONE
    said = capsys.readouterr().out
    assert "model.onnx, model.safetensors: as delivered\n" in said
    assert "model.onnx and model.safetensors are the same network: on 8 random pictures" in said
    assert main(["model", "verify", str(deliver(made, tmp_path / "mixed", mixed_up=True))]) == ExitCode.RUN_FAILED
    assert "are NOT the same network" in capsys.readouterr().out
    content = bytearray((state / "model" / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (state / "model" / WEIGHTS).write_bytes(content)
    assert main(["model", "verify", str(state)]) == ExitCode.DAMAGED
    assert "model.safetensors is not the one that was delivered" in capsys.readouterr().err
    assert main(["model", "show", str(tmp_path)]) == ExitCode.BAD_USAGE
    assert "holds no delivered network" in capsys.readouterr().err
