"""A delivered folder: whole or not there, and every file as it was delivered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mple.data.picture_reading import FileKind, PictureReading
from mple.delivered.folder import (
    ONNX,
    RECORD,
    WEIGHTS,
    DeliveredNetwork,
    DeliveredRecord,
    write_delivered,
)
from mple.delivered.onnx_file import network_to_onnx
from mple.delivered.tensor_file import network_to_safetensors
from mple.disk.damage import DamagedError
from tests.support.delivered_record import record_of
from tests.support.trunk_in_secret_order import TrunkInSecretOrder


@pytest.fixture(scope="module")
def made() -> TrunkInSecretOrder:
    return TrunkInSecretOrder(channels=1, side=28)


def deliver(made: TrunkInSecretOrder, folder: Path) -> DeliveredRecord:
    tensors = made.tensors()
    files = {WEIGHTS: network_to_safetensors(tensors, made.about), ONNX: network_to_onnx(tensors, made.about)}
    record = record_of(made.about, files, PictureReading(files=FileKind.DICOM, window=(40.0, 400.0), resized=True))
    write_delivered(folder, record, files)
    return record


def test_a_network_is_found_in_its_folder_and_in_the_state_folder(made: TrunkInSecretOrder, tmp_path: Path) -> None:
    record = deliver(made, tmp_path / "model")
    for place in (tmp_path, tmp_path / "model"):
        network = DeliveredNetwork.at(place)
        assert network.record == record
        np.testing.assert_allclose(network.plain().logits(made.pixels_BCHW), made.morphed_logits(), atol=1e-4)


def test_no_network_and_damaged_ones_are_told_apart(made: TrunkInSecretOrder, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'holds no delivered network.*delivery\.to = "sites"'):
        DeliveredNetwork.at(tmp_path)
    deliver(made, tmp_path)
    network = DeliveredNetwork.at(tmp_path)
    (tmp_path / ONNX).write_bytes((tmp_path / ONNX).read_bytes()[:-1] + b"x")
    with pytest.raises(DamagedError, match=r"model\.onnx is not the one that was delivered"):
        network.content(ONNX)
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(DamagedError, match=r"model\.safetensors is gone"):
        network.tensors()


def test_a_delivery_that_was_broken_off_is_none(
    made: TrunkInSecretOrder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(made, tmp_path)

    def refuse(path: Path, content: bytes) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr("mple.delivered.folder.write_whole", refuse)
    with pytest.raises(OSError, match="no space"):
        deliver(made, tmp_path)
    assert not (tmp_path / RECORD).exists()
