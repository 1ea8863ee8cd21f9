"""Keys that come and go within a run: their numbers, their layers, and what a restart finds of them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compute_node.layers.layer_bank import LayerBank, UnknownKeyError
from compute_node.layers.restore import listed_layers, restored_bank
from mple.disk.whole_files import file_sha256
from mple.model.stem import planned_stem
from mple.morph import MorphKey
from mple.morph.augmented import AugmentedLayer, build_augmented_layer
from mple.records.layer_list import LayerList, RevokedKey, layer_path, list_layers, read_list, write_list
from mple.v1 import common_pb2, coordinator_pb2
from mple.wire.layer_file import write_layer
from tests.support.small_plan import SIZES, key_of, key_ref, small_plan

PLAN = small_plan()
STEM = planned_stem(PLAN.model, filters=PLAN.filters, channels=1)


def next_key(site: str, epoch: int) -> MorphKey:
    return MorphKey(hashlib.sha256(f"{site} {epoch}".encode()).digest())


def next_ref(site: str, epoch: int) -> common_pb2.KeyRef:
    return common_pb2.KeyRef(site=site, epoch=epoch, fingerprint=next_key(site, epoch).fingerprint())


def layer(key: MorphKey, epoch: int = 1) -> AugmentedLayer:
    return build_augmented_layer(
        PLAN.morph.scheme(), PLAN.image, STEM.kernels_FCpp, key, np.arange(PLAN.filters),
        session=PLAN.session, key_epoch=epoch,
    )  # fmt: skip


def put(folder: Path, made: AugmentedLayer) -> bytes:
    folder.mkdir(exist_ok=True)
    write_layer(made, folder / "new", PLAN.layer_dtype)
    digest = file_sha256(folder / "new")
    (folder / "new").rename(layer_path(folder, digest))
    return digest


def header(reference: common_pb2.KeyRef, digest: bytes) -> coordinator_pb2.LayerHeader:
    return coordinator_pb2.LayerHeader(key_ref=reference, total_bytes=1, sha256=digest)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Layers of a run in which south has rotated twice and north once, in this order: 2, south 3, north 2."""
    folder = tmp_path / "layers"
    list_layers(folder, PLAN, {site: put(folder, layer(key_of(site))) for site in SIZES})
    for site, epoch in (("south", 2), ("south", 3), ("north", 2)):
        digest = put(folder, layer(next_key(site, epoch), epoch))
        write_list(folder, read_list(folder, PLAN).with_rotated(header(next_ref(site, epoch), digest)))
    return folder


def test_numbers_follow_the_plan_and_then_the_events() -> None:
    bank = LayerBank(PLAN)
    assert [bank.add(next_ref("south", 2)), bank.add(next_ref("north", 2)), bank.add(next_ref("south", 2))] == [2, 3, 2]
    assert [bank.number(key_ref(site), site) for site in ("north", "south")] == [0, 1]
    assert bank.number(next_ref("north", 2), "north") == 3
    with pytest.raises(UnknownKeyError, match=r"key north:2:.* is not a key of site south"):
        bank.number(next_ref("north", 2), "south")
    with pytest.raises(UnknownKeyError, match=r"key north:3:.* is not a key of site north"):
        bank.number(next_ref("north", 3), "north")


def test_a_revoked_key_is_refused_by_name_and_its_number_is_not_used_again() -> None:
    bank = LayerBank(PLAN)
    bank.store(key_ref("north"), layer(key_of("north")))
    assert not bank.complete
    assert bank.refuse(key_ref("north")) == 0
    with pytest.raises(UnknownKeyError, match=r"key north:1:.* is revoked; morph under the site's current key"):
        bank.number(key_ref("north"), "north")
    assert 0 in bank.layers, "samples under it may still be in use"
    bank.drop(0)
    assert not bank.layers
    assert bank.add(next_ref("north", 2)) == 2
    bank.store(key_ref("south"), layer(key_of("south")))
    assert bank.complete, "what is revoked is not waited for"
    assert bank.refuse(next_ref("south", 9)) is None


def test_a_restart_finds_rotated_keys_under_their_numbers(folder: Path) -> None:
    bank = restored_bank(folder, PLAN)
    names = [("south", 2), ("south", 3), ("north", 2)]
    assert [bank.number(next_ref(*name), name[0]) for name in names] == [2, 3, 4]
    assert sorted(bank.layers) == [2, 3, 4], "the plan's layers come with the run's events"
    assert bank.add(next_ref("north", 3)) == 5


def test_a_rotated_layer_whose_file_is_damaged_waits_for_its_event(folder: Path) -> None:
    damaged = layer_path(folder, bytes.fromhex(read_list(folder, PLAN).rotated[1].sha256))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    bank = restored_bank(folder, PLAN)
    assert sorted(bank.layers) == [2, 4]
    assert bank.number(next_ref("south", 3), "south") == 3


@pytest.mark.parametrize(("reference", "number"), [(key_ref("north"), 0), (next_ref("south", 2), 2)])
@pytest.mark.parametrize("erased", [False, True])
def test_a_restart_refuses_revoked_keys_and_keeps_their_layer_until_all_is_erased(
    folder: Path, reference: common_pb2.KeyRef, number: int, erased: bool
) -> None:
    listed = read_list(folder, PLAN)
    digest = listed.digest(PLAN, reference)
    assert digest is not None
    write_list(folder, listed.with_revoked(RevokedKey(reference.site, reference.epoch, 5, 7, erased=erased)))
    if erased:
        layer_path(folder, digest).unlink()
    bank = restored_bank(folder, PLAN)
    assert bank.refused(reference)
    assert (number in bank.layers) == (not erased)
    if erased:
        whole = listed_layers(folder, PLAN)
        assert sorted(whole.layers) == [one for one in range(5) if one != number]


def test_what_is_noted_stays_when_the_plans_layers_are_listed_again(folder: Path) -> None:
    before = read_list(folder, PLAN).with_revoked(RevokedKey("south", 2, 5, 7, erased=True))
    write_list(folder, before)
    list_layers(folder, PLAN, {site: bytes.fromhex(digest) for site, digest in before.layers.items()})
    assert read_list(folder, PLAN) == before
    assert before.with_rotated(header(next_ref("south", 2), bytes.fromhex(before.rotated[0].sha256))) == before
    other = replace(PLAN, run_id="another")
    assert read_list(folder, other) == LayerList(other.sha256().hex()), "another run's keys are none of this one's"


@pytest.mark.parametrize("content", ["", "[]", '{"plan_sha256": "00", "layers": {"n": "xy"}}'])
def test_a_damaged_list_is_named(folder: Path, content: str) -> None:
    (folder / "run.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"run\.json"):
        restored_bank(folder, PLAN)
