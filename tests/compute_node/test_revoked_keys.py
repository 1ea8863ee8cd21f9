"""A key is revoked while its site feeds: nothing more is taken under it, and what it had brought is asked for anew."""

from __future__ import annotations

import hashlib
import struct
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from compute_node.feeding.intake import Intake
from compute_node.feeding.mirroring import Mirroring
from compute_node.feeding.sample_cache import SampleCache
from compute_node.key_changes import KeyChanges
from compute_node.layers.layer_bank import ErasedKeyError, LayerBank
from compute_node.predictor import Predictor
from compute_node.ranks import RankGroup
from compute_node.training.features import features
from mple.model.settings import ModelSettings
from mple.model.stem import planned_stem
from mple.model.weights import build_trunk
from mple.morph import MorphKey
from mple.morph.augmented import AugmentedLayer, build_augmented_layer
from mple.plan import GlobalSampler, WireSettings
from mple.plan.shares import Share
from mple.records.cache_records import CacheShape
from mple.records.layer_list import list_layers
from mple.rpc import ErrorCode, MpleError
from mple.v1 import common_pb2, coordinator_pb2
from tests.support.open_intake import BLOCKS, CODEC, VALUES, answer
from tests.support.small_plan import CACHE_SECRET, SIZES, TEST, TRAIN, key_of, key_ref, small_plan

PLAN = small_plan(wire=WireSettings(codec=CODEC.name))
NEW_KEY = MorphKey(hashlib.sha256(b"next").digest())
NEW = common_pb2.KeyRef(site="north", epoch=2, fingerprint=NEW_KEY.fingerprint())
STEM = planned_stem(PLAN.model, filters=PLAN.filters, channels=1)


class Node:
    """Cache, bank and intake of a small run."""

    def __init__(self, folder: Path) -> None:
        train, test = (sum(sizes[split] for sizes in SIZES.values()) for split in (0, 1))
        shape = CacheShape(codec=CODEC, blocks=BLOCKS, values=VALUES, train=train, test=test)
        changed = threading.Condition()
        self.cache = SampleCache(folder / "cache", shape, CACHE_SECRET, changed)
        self.bank = LayerBank(PLAN)
        for site in SIZES:
            self.bank.store(key_ref(site), layer(key_of(site), 1))
        self.intake = Intake(
            PLAN,
            self.cache,
            self.bank,
            changed,
            in_flight_samples=2048,
            idle_timeout_s=30.0,
            mirroring=Mirroring(folder / "mirroring.json", PLAN),
        )
        sampler = GlobalSampler([site.train_images for site in PLAN.sites], 4, seed=1)
        self.intake.want_missing(sampler, 0)

    def feed(self, site: str, key: common_pb2.KeyRef) -> list[tuple[common_pb2.Split, int]]:
        """Answer all that a site is asked under a key; split and number of what was asked."""
        asked = []
        while (message := self.intake.next_message(site)) is not None:
            self.intake.take_batch(site, answer(site, message.samples, key_ref=key))
            asked += [(message.samples.split, number) for number in message.samples.sample_ids]
        return asked

    def revoke(self, key: common_pb2.KeyRef) -> None:
        """As the compute node does: refuse, erase, ask anew, drop the layer."""
        number = self.bank.refuse(key)
        assert number is not None
        for split, numbers in self.cache.erase(number).lost.items():
            self.intake.want_again(split, numbers)
        self.bank.drop(number)


def layer(key: MorphKey, epoch: int) -> AugmentedLayer:
    return build_augmented_layer(
        PLAN.morph.scheme(), PLAN.image, STEM.kernels_FCpp, key, np.arange(PLAN.filters),
        session=PLAN.session, key_epoch=epoch,
    )  # fmt: skip


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def rotate(node: Node) -> None:
    node.bank.add(NEW)
    node.bank.store(NEW, layer(NEW_KEY, 2))


def test_what_was_made_under_a_revoked_key_is_asked_again_and_only_that(node: Node) -> None:
    node.feed("north", key_ref("north"))
    node.feed("south", key_ref("south"))
    rotate(node)
    node.revoke(key_ref("north"))
    assert node.intake.next_message("south") is None
    again = node.feed("north", NEW)
    assert sorted(again) == [(TRAIN, n) for n in range(5)] + [(TEST, n) for n in range(3)]
    assert set(node.cache.read(TRAIN, np.arange(5)).keys_B.tolist()) == {2}
    assert set(node.cache.read(TEST, np.arange(3)).keys_B.tolist()) == {2}


def test_a_batch_that_was_on_its_way_is_refused_by_name_and_its_request_stays_open(node: Node) -> None:
    rotate(node)
    message = node.intake.next_message("north")
    assert message is not None
    node.revoke(key_ref("north"))
    with pytest.raises(MpleError, match=r"key north:1:.* is revoked; morph under the site's current key") as fault:
        node.intake.take_batch("north", answer("north", message.samples))
    assert fault.value.code is ErrorCode.UNKNOWN_KEY_REF
    node.intake.take_batch("north", answer("north", message.samples, key_ref=NEW))
    assert node.cache.count(2) == len(message.samples.sample_ids)


def test_older_samples_stay_usable_beside_those_of_a_rotated_key(node: Node) -> None:
    message = node.intake.next_message("north")
    assert message is not None
    node.intake.take_batch("north", answer("north", message.samples))
    rotate(node)
    node.feed("north", NEW)
    node.feed("south", key_ref("south"))
    samples = node.cache.read(TRAIN, np.arange(9))
    assert set(samples.keys_B.tolist()) == {0, 1}
    mixed = node.cache.read(TEST, np.arange(5))
    assert set(mixed.keys_B.tolist()) == {1, 2}
    assert features(torch.from_numpy(CODEC.decode(mixed.coded, BLOCKS)), mixed.keys_B, node.bank.layers).shape[0] == 5


def test_samples_read_before_the_revocation_are_not_used_after_it(node: Node) -> None:
    node.feed("north", key_ref("north"))
    samples = node.cache.read(TRAIN, np.arange(3))
    rotate(node)
    node.revoke(key_ref("north"))
    with pytest.raises(ErasedKeyError, match="key number 0 is revoked"):
        features(torch.from_numpy(CODEC.decode(samples.coded, BLOCKS)), samples.keys_B, node.bank.layers)


def test_training_waits_for_the_samples_that_come_anew(node: Node) -> None:
    node.feed("north", key_ref("north"))
    rotate(node)
    node.revoke(key_ref("north"))
    got: list[int] = []
    waiting = threading.Thread(target=lambda: got.extend(node.intake.wait_for(TRAIN, np.arange(5)).tolist()))
    waiting.start()
    node.feed("north", NEW)
    waiting.join(timeout=20)
    assert got == [0, 1, 2, 3, 4]


def test_nothing_is_asked_anew_when_the_sites_are_done(node: Node) -> None:
    node.feed("north", key_ref("north"))
    rotate(node)
    node.intake.close()
    node.revoke(key_ref("north"))
    message = node.intake.next_message("north")
    assert message is not None
    assert message.WhichOneof("message") == "done"


def test_predictions_go_by_the_new_key_and_not_by_a_revoked_one(node: Node) -> None:
    plan = small_plan(side_px=28)  # as small as the trunk takes
    stem = planned_stem(plan.model, filters=plan.filters, channels=1)
    bank = LayerBank(plan)
    bank.add(NEW)
    for key, name, epoch in ((key_of("north"), key_ref("north"), 1), (NEW_KEY, NEW, 2)):
        made = build_augmented_layer(
            plan.morph.scheme(), plan.image, stem.kernels_FCpp, key, np.arange(plan.filters),
            session=plan.session, key_epoch=epoch,
        )  # fmt: skip
        bank.store(name, made)
    trunk = build_trunk(ModelSettings(width=plan.model.width, dropout=0.0), 3, 1)
    predictor = Predictor(plan, trunk, bank)
    bank.refuse(key_ref("north"))
    question = common_pb2.MorphedBatch(request_id=1, key_ref=key_ref("north"), samples=1)
    with pytest.raises(MpleError, match="is revoked") as fault:
        predictor.answer(question, "north")
    assert fault.value.code is ErrorCode.UNKNOWN_KEY_REF
    question.key_ref.CopyFrom(NEW)
    with pytest.raises(MpleError) as fault:
        predictor.answer(question, "north")
    assert fault.value.code is ErrorCode.MESSAGE_MALFORMED, "the key is known, and only then the batch is looked at"


class _Client:
    """A coordinator that hears reports."""

    def __init__(self) -> None:
        self.told: list[coordinator_pb2.ReportRequest] = []

    def report(self, request: coordinator_pb2.ReportRequest) -> None:
        self.told.append(request)


class _WithAnother(RankGroup):
    """A group of two; the other rank has erased ten samples and a layer of 100 bytes, or can't use a key."""

    def gather(self, mine: bytes = b"") -> tuple[bytes, ...]:
        other = struct.pack("<qq", 10, 100) if len(mine) == 16 else b""
        return (mine, other)


@pytest.mark.parametrize("rank", [0, 1])
def test_rank_0_reports_what_all_ranks_have_erased(node: Node, tmp_path: Path, rank: int) -> None:
    folder, client = tmp_path / "layers", _Client()
    folder.mkdir()
    list_layers(folder, PLAN, {site: bytes(32) for site in SIZES})
    node.feed("north", key_ref("north"))
    samples = SimpleNamespace(plan=PLAN, bank=node.bank, cache=node.cache, intake=node.intake)
    changes = KeyChanges(client=client, samples=samples, folder=folder, ranks=_WithAnother(Share(rank, 2)))  # type: ignore[arg-type]
    revoked = coordinator_pb2.KeyRevoked(key_ref=key_ref("north"))
    changes.take(coordinator_pb2.WatchResponse(key_revoked=revoked))
    changes.take(coordinator_pb2.WatchResponse(key_revoked=revoked))  # as after a restart
    told = [(one.key_erased.samples, one.key_erased.layer_bytes) for one in client.told]
    assert told == ([(8 + 10, 100)] * 2 if rank == 0 else [])
    assert node.cache.count(0) == 0
