"""The real systems, installed and run. The first time this needs a network and minutes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from comparison.elsewhere.cheetah import CheetahResult
from comparison.elsewhere.flower import FlowerSettings, measure_flower
from comparison.elsewhere.unavailable import Reason, Unavailable
from comparison.elsewhere_row import run_cheetah
from comparison.networks.small import small_network
from mple.data import default_data_folder
from mple.disk.json_records import read_record

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
MISSING = (Reason.NO_NETWORK, Reason.NO_WHEEL, Reason.WRONG_PYTHON)


def test_flower_averages_and_every_byte_is_one_of_a_network(tmp_path: Path) -> None:
    if not (default_data_folder() / "cifar10").exists():
        pytest.skip("CIFAR-10 has not been fetched")
    try:
        result = measure_flower(FlowerSettings(width=0.0625, rounds=2, images=600, batch=50), tmp_path)
    except Unavailable as fault:
        if fault.reason in MISSING:
            pytest.skip(str(fault))
        raise
    assert len(result.rounds) == 2 and result.train_images == (200, 200, 200)
    for each in result.rounds:
        for carried in (each.up_bytes, each.down_bytes):
            assert 1.0 < carried / (3 * result.exchanged_bytes) < 1.2
    carried = sum(result.up_bytes_by_site) + sum(result.down_bytes_by_site)
    assert carried >= sum(each.up_bytes + each.down_bytes for each in result.rounds) + result.setup_bytes
    assert result.rounds[0].loss != result.rounds[1].loss and 0 <= result.rounds[1].test_accuracy <= 1


def test_cheetah_gives_the_networks_logits_and_no_weight_crosses(tmp_path: Path) -> None:
    network = small_network()
    pixels = np.random.default_rng(2).integers(0, 256, (2, 3, 8, 8)).astype(np.uint8)
    row = run_cheetah(network, pixels, tmp_path / "cheetah")
    if row.skipped.startswith(MISSING):
        pytest.skip(row.skipped)
    assert not row.skipped
    result = read_record(CheetahResult, tmp_path / "cheetah" / "outcome.json")
    assert result.largest_fixed_point_error < 0.05
    assert result.setup_wire_bytes < 10_000 < result.first_wire_bytes
    first, second = result.inferences
    assert second.wire_up_bytes + second.wire_down_bytes < first.wire_up_bytes + first.wire_down_bytes
    for each in result.inferences:
        assert 1 < each.wire_up_bytes / each.client_link.sent_bytes < 1.1
        assert 1 < each.wire_down_bytes / each.client_link.received_bytes < 1.1
        assert "pphlo.convolution" in each.client_link.parts
