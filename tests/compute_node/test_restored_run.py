"""A finished run that a state folder keeps: it answers as before, and nothing damaged or foreign answers at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from compute_node.layers.layer_bank import LayerBank
from compute_node.predictor import Predictor, restored_run
from mple.disk.damage import with_checksum
from mple.disk.json_records import write_record
from mple.disk.whole_files import file_sha256
from mple.model.stem import planned_stem
from mple.model.weights import build_trunk, save_trunk, state_sha256
from mple.morph.augmented import build_augmented_layer
from mple.morph.morpher import Morpher
from mple.plan import RunPlan
from mple.records.layer_list import layer_path, list_layers, read_planned_layer
from mple.records.training import Outcome
from mple.v1 import common_pb2
from mple.wire.batch import Batch, batch_to_message
from mple.wire.codecs import codec_named
from mple.wire.layer_file import write_layer
from tests.support.small_plan import SIZES, key_of, key_ref, small_plan

PLAN = small_plan(side_px=28)
CODEC = codec_named(PLAN.wire.codec)


@dataclass(frozen=True)
class Finished:
    """A state folder, and who answered before the restart."""

    state: Path
    before: Predictor


@pytest.fixture
def finished(tmp_path: Path) -> Finished:
    (tmp_path / "plan.json").write_bytes(with_checksum(PLAN.to_json()))
    bank, digests = LayerBank(PLAN), {}
    stem = planned_stem(PLAN.model, filters=PLAN.filters, channels=1)
    (tmp_path / "layers").mkdir()
    for site in SIZES:
        layer = build_augmented_layer(
            PLAN.morph.scheme(), PLAN.image, stem.kernels_FCpp, key_of(site), np.arange(PLAN.filters),
            session=PLAN.session, key_epoch=1,
        )  # fmt: skip
        written = tmp_path / "layers" / "new"
        write_layer(layer, written, PLAN.layer_dtype)
        digests[site] = file_sha256(written)
        stored = written.rename(layer_path(tmp_path / "layers", digests[site]))
        bank.store(key_ref(site), read_planned_layer(stored, PLAN))
    list_layers(tmp_path / "layers", PLAN, digests)
    trunk = build_trunk(PLAN.model, len(PLAN.classes), seed=77)  # not the seed from which the plan's training begins
    save_trunk(trunk, tmp_path / "model.safetensors", {})
    outcome = Outcome(
        run_id=PLAN.run_id, plan_sha256=PLAN.sha256().hex(), model_sha256=state_sha256(trunk),
        train_seconds=1.0, augconv_seconds=0.1, idle_seconds=0.1, samples_trained=9,
    )  # fmt: skip
    write_record(tmp_path / "outcome.json", outcome)
    return Finished(tmp_path, Predictor(PLAN, trunk, bank))


def question(site: str) -> common_pb2.MorphedBatch:
    x_BCHW = np.random.default_rng(1).random((3, 1, 28, 28), np.float32)
    morpher = Morpher(PLAN.morph.scheme(), PLAN.image, key_of(site), session=PLAN.session, key_epoch=1)
    batch = Batch(CODEC.encode(morpher.morph(x_BCHW)), np.empty(0, np.uint16))
    return batch_to_message(batch, request_id=1, key_ref=key_ref(site), split=common_pb2.SPLIT_UNSPECIFIED, codec=CODEC)


@pytest.mark.parametrize("site", list(SIZES))
def test_it_answers_as_before(finished: Finished, site: str) -> None:
    kept = restored_run(finished.state)
    assert kept is not None
    assert kept.plan == PLAN
    assert kept.predictor.answer(question(site), site) == finished.before.answer(question(site), site)


def other_plan() -> RunPlan:
    return replace(PLAN, run_id="another")


@pytest.mark.parametrize("missing", ["plan.json", "outcome.json"])
def test_a_run_that_has_not_finished_is_not_kept(finished: Finished, missing: str) -> None:
    (finished.state / missing).unlink()
    assert restored_run(finished.state) is None


def test_a_newer_plan_without_an_outcome_is_not_finished(finished: Finished) -> None:
    (finished.state / "plan.json").write_bytes(with_checksum(other_plan().to_json()))
    assert restored_run(finished.state) is None


def first_layer(state: Path) -> Path:
    listed = json.loads((state / "layers" / "run.json").read_text(encoding="utf-8"))
    return state / "layers" / f"{listed['layers']['north']}.safetensors"


def cut_network(state: Path) -> None:
    path = state / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def other_network(state: Path) -> None:
    save_trunk(build_trunk(PLAN.model, len(PLAN.classes), seed=78), state / "model.safetensors", {})


def no_network(state: Path) -> None:
    (state / "model.safetensors").unlink()


def no_layer(state: Path) -> None:
    first_layer(state).unlink()


def flipped_layer(state: Path) -> None:
    path = first_layer(state)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def list_of_another_plan(state: Path) -> None:
    list_layers(state / "layers", other_plan(), dict.fromkeys(SIZES, bytes(32)))


def damaged_outcome(state: Path) -> None:
    (state / "outcome.json").write_text("{}", encoding="utf-8")


def damaged_plan(state: Path) -> None:
    (state / "plan.json").write_text("{}", encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut_network, "model.safetensors"),
        (other_network, "differs from the network that run small-run trained"),
        (no_network, "model.safetensors can't be read"),
        (no_layer, "safetensors holds the layer of site north, and is missing or damaged"),
        (flipped_layer, "safetensors holds the layer of site north, and is missing or damaged"),
        (list_of_another_plan, "lists the layers of plan"),
        (damaged_outcome, "outcome.json is damaged: its 2 bytes are not"),
        (damaged_plan, "plan.json is damaged"),
    ],
)
def test_what_is_damaged_or_foreign_does_not_answer(
    finished: Finished, damage: Callable[[Path], None], words: str
) -> None:
    damage(finished.state)
    with pytest.raises(ValueError, match=words):
        restored_run(finished.state)
