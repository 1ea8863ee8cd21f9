"""`mple predict` by a delivered network: without torch, without a key, from a copied folder, too."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mple.cli.app import app
from mple.data.picture_reading import FileKind, PictureReading
from mple.delivered.folder import ONNX, WEIGHTS, DeliveredNetwork, copy_delivered, write_delivered
from mple.delivered.onnx_file import network_to_onnx
from mple.delivered.tensor_file import network_to_safetensors
from mple.model.settings import TaskKind
from mple.prediction.page import overlay
from tests.support.delivered_record import record_of
from tests.support.dicom_files import by_window, write_dicom
from tests.support.trunk_in_secret_order import CLASSES, TrunkInSecretOrder

SIDE_PX = 28


@pytest.fixture(scope="module")
def made() -> TrunkInSecretOrder:
    return TrunkInSecretOrder(channels=1, side=SIDE_PX)


def deliver(made: TrunkInSecretOrder, folder: Path, reading: PictureReading, **changes: Any) -> None:
    """As a run leaves a network in a site's hands."""
    about, tensors = replace(made.about, **changes), made.tensors()
    files = {WEIGHTS: network_to_safetensors(tensors, about), ONNX: network_to_onnx(tensors, about)}
    write_delivered(folder, record_of(about, files, reading), files)


@pytest.fixture
def state(made: TrunkInSecretOrder, tmp_path: Path) -> Path:
    """A site's state folder after a delivery; its configuration and pictures lie beside."""
    deliver(made, tmp_path / "state" / "model", PictureReading(white=200.0))
    for label, name in enumerate(CLASSES):
        for split in ("train", "test"):
            _save(tmp_path / "data" / split / name / "a.png", pictures()[label])
    (tmp_path / "north.toml").write_text(
        'state = "state"\nvault = "vault"\ntls = "tls"\ncoordinator = "127.0.0.1:1"\ncompute = "127.0.0.1:1"\n'
        '[data]\nkind = "folder"\npath = "data"\nwhite = 200\n'
    )
    return tmp_path / "state"


def pictures() -> np.ndarray:
    """Four grey pictures with values up to 200, which is white."""
    return np.random.default_rng(5).integers(0, 201, (4, SIDE_PX, SIDE_PX), dtype=np.uint8)


def expected(made: TrunkInSecretOrder, stored_NHW: np.ndarray) -> np.ndarray:
    """Probabilities by the trunk in its secret order, of the levels that stored values mean."""
    made.pixels_BCHW = np.floor(stored_NHW / 200 * 255 + 0.5).astype(np.uint8)[:, None]
    return _softmax(made.morphed_logits().astype(float))


def _softmax(logits_BC: np.ndarray) -> np.ndarray:
    chances = np.exp(logits_BC - logits_BC.max(axis=1, keepdims=True))
    return chances / chances.sum(axis=1, keepdims=True)


def _save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def _asked(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["predict", *map(str, arguments)])
    assert result.exception is None, result.exception
    return result.output


def _chances(printed: str) -> np.ndarray:
    rows = json.loads(printed)["predictions"]
    return np.array([[row["probabilities"][name] for name in CLASSES] for row in rows])


def test_by_a_configuration_and_by_a_copied_folder_alike(
    made: TrunkInSecretOrder, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [_save(tmp_path / "new" / f"{number}.png", one) for number, one in enumerate(pictures())]
    by_site = _chances(_asked(tmp_path / "north.toml", *files, "--json"))
    np.testing.assert_allclose(by_site, expected(made, pictures()), atol=1e-4)
    copy = shutil.copytree(state / "model", tmp_path / "elsewhere")
    shutil.rmtree(state)
    np.testing.assert_array_equal(_chances(_asked("--model", copy, tmp_path / "new", "--json")), by_site)


def test_the_sites_test_images_and_the_files_of_a_table_are_scored(
    made: TrunkInSecretOrder, state: Path, tmp_path: Path
) -> None:
    right = (expected(made, pictures()).argmax(axis=1) == np.arange(4)).mean()
    whole = json.loads(_asked(tmp_path / "north.toml", "--test", 4, "--json"))
    assert whole["scores"]["accuracy"] == right
    assert [row["label"] for row in whole["predictions"]] == list(CLASSES)
    rows = [f"test/{name}/a.png,{name}" for name in CLASSES]
    (tmp_path / "data" / "list.csv").write_text("\n".join(["file,label", *rows]))
    text = _asked("--model", state, "--labels", tmp_path / "data" / "list.csv")
    assert re.search(rf"^accuracy +{right:.4f} ", text, re.MULTILINE)
    assert all(f"is {name}" in text for name in CLASSES)
    (tmp_path / "data" / "list.csv").write_text("file,label\ntest/cyst/a.png,wart\n")
    fault = CliRunner().invoke(app, ["predict", "--model", str(state), "--labels", str(tmp_path / "data/list.csv")])
    assert "line 2: the network has no class 'wart'; it has cyst, normal" in str(fault.exception)


def test_dicom_files_are_shown_to_it_under_the_window_of_training(made: TrunkInSecretOrder, tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    deliver(made, tmp_path / "model", PictureReading(files=FileKind.DICOM, window=(40.0, 400.0), resized=True))
    units = np.random.default_rng(6).integers(-300, 400, (SIDE_PX, SIDE_PX)).astype(np.int16)
    own = {"WindowCenter": 2000, "WindowWidth": 10, "RescaleSlope": 1, "RescaleIntercept": -1024}
    write_dicom(tmp_path / "new" / "x.dcm", units + np.int16(1024), **own)
    shown = _chances(_asked("--model", tmp_path / "model", tmp_path / "new", "--json"))
    made.pixels_BCHW = by_window(units, 40, 400)[None, None]
    np.testing.assert_allclose(shown, _softmax(made.morphed_logits().astype(float)), atol=1e-4)


def test_labels_of_a_picture_each_on_its_own(made: TrunkInSecretOrder, tmp_path: Path) -> None:
    deliver(made, tmp_path / "model", PictureReading(), task=TaskKind.LABELS)
    levels = np.random.default_rng(7).integers(0, 256, (2, SIDE_PX, SIDE_PX), dtype=np.uint8)
    rows = ["file," + ",".join(CLASSES), "0.png,1,0,,1", "1.png,0,1,1,-1"]
    for number, one in enumerate(levels):
        _save(tmp_path / "set" / f"{number}.png", one)
    (tmp_path / "set" / "labels.csv").write_text("\n".join(rows))
    whole = json.loads(_asked("--model", tmp_path / "model", "--labels", tmp_path / "set" / "labels.csv", "--json"))
    made.pixels_BCHW = levels[:, None]
    chances = 1 / (1 + np.exp(-made.morphed_logits().astype(float)))
    np.testing.assert_allclose(_chances(json.dumps(whole)), chances, atol=1e-4)
    said = [{CLASSES[place] for place in np.flatnonzero(one >= 0.5)} for one in chances]
    assert [set(row["labels"]) for row in whole["predictions"]] == said
    assert whole["predictions"][0]["true"] == dict(zip(CLASSES, (1, 0, None, 1), strict=True))
    known = np.array([[1, 0, -1, 1], [0, 1, 1, -1]])
    assert whole["scores"]["accuracy"] == ((chances >= 0.5) == known)[known >= 0].mean()


def test_the_page_shows_picture_probabilities_and_evidence(
    made: TrunkInSecretOrder, state: Path, tmp_path: Path
) -> None:
    file = _save(tmp_path / "<x>.png", pictures()[0])
    page, table = tmp_path / "page.html", tmp_path / "table.csv"
    _asked(tmp_path / "north.toml", file, "--page", page, "--csv", table)
    assert stat.S_IMODE(page.stat().st_mode) == stat.S_IMODE(table.stat().st_mode) == 0o600
    text = page.read_text()
    assert not re.search(r"https?://|<script|<x>|src=\"(?!data:)", text)
    chances = expected(made, pictures()[:1])[0]
    said = CLASSES[int(chances.argmax())]
    assert f"evidence for {said}</figcaption>" in text
    shown = [float(re.findall(rf"{name}(?:</b>)? ([01][.][0-9]{{4}})<", text)[0]) for name in CLASSES]
    np.testing.assert_allclose(shown, chances, atol=2e-4)
    plain = Image.open(io.BytesIO(base64.b64decode(re.findall('image/png;base64,([^"]+)', text)[0])))
    np.testing.assert_array_equal(np.asarray(plain), made.pixels_BCHW[0, 0])
    assert len(re.findall("image/jpeg;base64,", text)) == 1


def test_a_folder_with_the_weights_alone_is_enough(state: Path, tmp_path: Path) -> None:
    file = _save(tmp_path / "x.png", pictures()[0])
    for only, there in (("safetensors", True), ("onnx", False)):
        copy_delivered(DeliveredNetwork.at(state), tmp_path / only, [{"onnx": ONNX, "safetensors": WEIGHTS}[only]])
        arguments = ["predict", "--model", str(tmp_path / only), str(file), "--page", str(tmp_path / "page.html")]
        fault = CliRunner().invoke(app, arguments).exception
        assert fault is None if there else "has no model.safetensors, which predictions need" in str(fault)
    assert "evidence for" in (tmp_path / "page.html").read_text()


def test_evidence_lies_where_the_map_has_it() -> None:
    black = np.zeros((1, 28, 28), np.uint8)
    shown = np.asarray(overlay(black, np.array([[0.0, 3.0], [0.0, 0.0]], np.float32))).astype(int)
    assert shown.shape == (224, 224, 3)
    assert shown[20, 215].tolist() == [129, 0, 0]  # 0.6 of (215, 0, 0)
    assert shown[215, 20].tolist() == [0, 0, 0]
    assert not np.asarray(overlay(black, np.zeros((2, 2), np.float32))).any()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["{toml}"], "name picture files or folders, or --labels FILE"),
        ([], "name the site's configuration, or --model FOLDER"),
        (["--model", "{state}", "{file}", "--test", "2"], "name picture files or folders"),
        (["--model", "{state}", "--test", "2"], "--test needs the site's configuration"),
        (["--model", "{state}", "{file}", "--set", "threads=2"], "--set threads=2 changes a configuration"),
        (["--model", "{state}", "{file}", "--remote"], "--remote asks with the site's key"),
        (["--model", "{nowhere}", "{file}"], "holds no delivered network"),
        (["{toml}", "{file}", "--set", "state='elsewhere'"], 'with delivery.to = "sites"; or ask the compute node'),
        (["{toml}", "{file}", "--page", "x.pdf"], "let its name end in .html"),
        (["{toml}", "{file}", "--all", "--top", "2"], "choose one"),
        (["{toml}", "{file}", "--set", "data.white=255"], "reads pictures with white = 255.0, the network was trained"),
        (
            ["{toml}", "--test", "2", "--set", "data.classes=['a','b','cyst','normal','tumour','unclear']"],
            "point [data]",
        ),
    ],
)
def test_what_can_not_be_is_said(state: Path, tmp_path: Path, arguments: list[str], text: str) -> None:
    file = _save(tmp_path / "x.png", pictures()[0])
    places = {"toml": tmp_path / "north.toml", "state": state, "file": file, "nowhere": tmp_path / "nowhere"}
    result = CliRunner().invoke(app, ["predict", *(one.format(**places) for one in arguments)])
    assert text in str(result.exception)


def test_more_pictures_than_a_page_holds(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mple.prediction.options._MOST_IN_PAGE", 1)
    for name in "ab":
        _save(tmp_path / "new" / f"{name}.png", pictures()[0])
    arguments = ["predict", "--model", str(state), str(tmp_path / "new"), "--page", "x.html"]
    assert "at most 1 pictures, not 2" in str(CliRunner().invoke(app, arguments).exception)


def test_torch_and_sockets_are_not_needed(state: Path, tmp_path: Path) -> None:
    file = _save(tmp_path / "x.png", pictures()[0])
    program = f"""
import socket, sys
def refuse(*_, **__): raise AssertionError("a connection")
socket.socket.connect = refuse
from mple.cli import main
code = main(["predict", "--model", {str(state)!r}, {str(file)!r}, "--page", {str(tmp_path / "p.html")!r}])
assert code == 0, code
assert "torch" not in sys.modules
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
