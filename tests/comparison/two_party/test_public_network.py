"""What the server tells the client about its network, and arithmetic on shares that both must do alike."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from comparison.networks import small_network
from comparison.two_party.network_form import form_of
from comparison.two_party.plain_stages import linear_part, run_stages
from comparison.two_party.public_network import PublicNetwork, as_input, pooled_shares, windows_of
from comparison.two_party.residues import centred, draw_residues, from_bytes, to_bytes
from mple.disk.json_records import record_from_json, record_to_json

FORM = form_of(small_network())
MODULUS = small_network().modulus


def read(text: str | bytes) -> PublicNetwork:
    return record_from_json(PublicNetwork, text, "the form")


def test_a_form_crosses_the_wire_and_has_no_weights() -> None:
    text = record_to_json(FORM)
    assert read(text) == FORM
    assert len(text) < 1000
    assert [(stage.name, stage.inputs, stage.side, stage.instances) for stage in FORM.stages] == [
        ("conv1", 3, 8, 64),
        ("conv2", 4, 4, 96),
        ("dense", 24, 1, 0),
    ]
    assert FORM.classes == 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"inputs": 5}, "does not take"),
        ({"side": 3000}, "out of range"),
        ({"outputs": "4"}, "not a whole number"),
        ({"shift": 99}, "shifts by 99 bits"),
        ({"pool": "mean"}, "pool 'mean'"),
        ({"weights": [1]}, "unknown key stages"),
        ({"shift": None, "pool": "none"}, "does not take|last stage alone"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_what_is_no_form_is_refused(change: dict[str, object], words: str) -> None:
    raw = json.loads(record_to_json(FORM))
    raw["stages"][0] |= change
    with pytest.raises(ValueError, match=words):
        read(json.dumps(raw))


@pytest.mark.parametrize("text", [b"", b"[]", b"\xff", b'{"stages": []}', b'{"stages": [3], "input_shape": [3, 8, 8]}'])
def test_rubbish_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="the form"):
        read(text)


def test_stages_in_the_clear_are_the_quantised_network() -> None:
    network = small_network(seed=4)
    pixels_NCHW = np.random.default_rng(2).integers(0, 256, (3, 3, 8, 8)).astype(np.uint8)
    weights, biases = [s.weights_OIpp for s in network.stages], [s.bias_O for s in network.stages]
    logits = [
        run_stages(FORM.stages, weights, biases, FORM.integers_of(picture)).reshape(-1) for picture in pixels_NCHW
    ]
    assert np.array_equal(logits, network.run(pixels_NCHW))


def test_sums_that_might_not_be_exact_are_refused() -> None:
    with pytest.raises(ValueError, match="are not exact"):
        linear_part(np.full((1, 1, 1, 1), 2**20, np.int32), np.full((1, 2, 2), 2**40, np.int64))


def test_windows_and_pools_keep_places_together() -> None:
    values_OHW = np.arange(4 * 8 * 8).reshape(4, 8, 8)
    windows_WI = windows_of(FORM.stages[0], values_OHW)
    assert windows_WI.shape == (4, 64)
    assert windows_WI[:, 5].tolist() == values_OHW[0, 2:4, 2:4].reshape(-1).tolist()
    summed = replace(FORM.stages[0], pool="sum")
    assert pooled_shares(summed, values_OHW, 1009)[1, 0, 3] == values_OHW[1, 0:2, 6:8].sum() % 1009
    assert as_input(FORM.stages[2], np.arange(24).reshape(6, 2, 2)).reshape(-1).tolist() == list(range(24))


def test_residues_are_uniform_and_cross_the_wire() -> None:
    drawn = draw_residues((100, 400), MODULUS)
    assert drawn.min() >= 0
    assert drawn.max() < MODULUS
    assert abs(drawn.mean() / MODULUS - 0.5) < 0.01
    assert np.array_equal(from_bytes(to_bytes(drawn), (100, 400), MODULUS), drawn)
    assert centred(np.array([0, 1, MODULUS - 1, MODULUS // 2]), MODULUS).tolist() == [0, 1, -1, MODULUS // 2]


@pytest.mark.parametrize(
    ("data", "words"), [(bytes(7), "7 bytes of residues instead of 8"), (b"\xff" * 8, "no residue")]
)
def test_what_are_no_residues_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        from_bytes(data, (2,), MODULUS)
