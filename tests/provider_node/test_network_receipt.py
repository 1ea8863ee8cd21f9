"""A site that is told of the trained network: fetched over broken links, put together, compared, kept."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from torch import nn

from compute_node.network_file import NetworkFile, write_network
from mple.data import Dataset, LabelledImages, NpzSource
from mple.delivered.check import Verdict
from mple.delivered.folder import DeliveredNetwork
from mple.node.stop import Stop
from mple.plan import DeliveredDtype, DeliverTo, DeliverySettings, PrivacyMode, PrivacySettings, WireSettings
from mple.rpc import ErrorCode, MpleError
from mple.rpc.file_transfer import chunks_of
from mple.v1 import common_pb2, compute_pb2
from provider_node.delivery.receipt import NetworkReceipt
from provider_node.feeding.kept_logits import KeptLogits
from tests.support.trunk_in_secret_order import CLASSES, SECRET, TrunkInSecretOrder

pb = compute_pb2
TEST = common_pb2.SPLIT_TEST
NONE = LabelledImages(np.empty((0, 1, 28, 28), np.uint8), np.empty(0, np.int64))


class LinkError(Exception):
    """The link broke."""


class Call:
    """Chunks that come until the link breaks."""

    def __init__(self, network: NetworkFile, offset: int, chunks: int) -> None:
        self._coming = enumerate(chunks_of(network.path, offset, network.total_bytes))
        self._chunks = chunks

    def __iter__(self) -> Iterator[pb.DownloadNetworkResponse]:
        for number, chunk in self._coming:
            if number == self._chunks:
                raise LinkError
            yield pb.DownloadNetworkResponse(offset=chunk.offset, data=chunk.data, final=chunk.final)

    def cancel(self) -> None: ...


class Offer:
    """A compute node's network, behind links that break after so many chunks."""

    def __init__(self, network: NetworkFile, chunks: int = 1_000) -> None:
        self.network, self.chunks, self.offsets = network, chunks, list[int]()

    def DownloadNetwork(self, request: pb.DownloadNetworkRequest, timeout: float) -> Call:
        self.offsets.append(request.offset)
        return Call(self.network, request.offset, self.chunks)


class Nobody:
    def DownloadNetwork(self, *_: object, **__: object) -> NoReturn:
        raise AssertionError("it was fetched again")


def site_of(made: TrunkInSecretOrder, state: Path, *, tests: int | None = None, vals: int = 0) -> NetworkReceipt:
    pixels = made.pixels_BCHW
    images = LabelledImages(pixels, np.zeros(len(pixels), np.int64))
    tests = len(pixels) if tests is None else tests
    dataset = Dataset(
        name="it", classes=CLASSES, train=images, test=images.take(np.arange(tests)), val=images.take(np.arange(vals))
    )
    site = SimpleNamespace(
        name="north",
        settings=SimpleNamespace(state=state, threads=1, data=NpzSource(path=state / "set.npz")),
        vault=SimpleNamespace(consortium_secret=lambda run_id: SECRET),
        dataset=dataset,
    )
    logits = KeptLogits(state / "scored")
    return NetworkReceipt(site=site, plan=made.plan, stem=lambda: made.stem, logits=logits)  # type: ignore[arg-type]


def score(receipt: NetworkReceipt, made: TrunkInSecretOrder, epoch: int, split: common_pb2.Split = TEST) -> None:
    """What the compute node has answered to the morphed pictures of a split."""
    receipt.logits.keep(split, epoch, made.morphed_logits())


def offered(made: TrunkInSecretOrder, folder: Path) -> tuple[NetworkFile, pb.NetworkReady]:
    network = write_network(made.trunk, made.plan, folder / "network.safetensors")
    return network, network.ready(epoch=3, model_sha256="ab" * 32)


@pytest.fixture(scope="module")
def made() -> TrunkInSecretOrder:
    return TrunkInSecretOrder(channels=1, side=28)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mple.rpc.file_transfer.CHUNK_BYTES", 64 * 1024)


def receive(receipt: NetworkReceipt, ready: pb.NetworkReady, stub: object) -> pb.NetworkReceived:
    return receipt.receive(ready, stub, Stop())  # type: ignore[arg-type]


def test_a_network_is_fetched_put_together_and_agrees(made: TrunkInSecretOrder, tmp_path: Path) -> None:
    receipt = site_of(made, tmp_path)
    network, ready = offered(made, tmp_path)
    score(receipt, made, 3)
    received = receive(receipt, ready, Offer(network))
    assert (received.sha256, received.check) == (network.sha256, "agrees")
    kept = DeliveredNetwork.at(tmp_path)
    check = kept.record.check
    assert (check.verdict, check.split, check.pictures, check.same_answers) == (Verdict.AGREES, "test", 3, 3)
    assert check.largest_difference is not None
    assert check.largest_difference < 1e-4
    np.testing.assert_allclose(kept.plain().logits(made.pixels_BCHW), made.morphed_logits(), atol=1e-4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "network.safetensors", "scored"]
    assert receive(site_of(made, tmp_path), ready, Nobody()).check == "agrees"


def test_a_broken_link_goes_on_where_it_was(made: TrunkInSecretOrder, tmp_path: Path) -> None:
    network, ready = offered(made, tmp_path)
    offer = Offer(network, chunks=2)
    for _ in range(10):
        try:
            receive(site_of(made, tmp_path), ready, offer)  # a new process each time
        except LinkError:
            continue
        break
    assert offer.offsets == [part * 2 * 64 * 1024 for part in range(len(offer.offsets))]
    assert len(offer.offsets) == -(-network.total_bytes // (128 * 1024)) > 1


def test_test_answers_outlast_a_restart_and_are_those_of_the_kept_epoch(
    made: TrunkInSecretOrder, tmp_path: Path
) -> None:
    network, ready = offered(made, tmp_path)
    before = site_of(made, tmp_path)
    score(before, made, 3)
    assert receive(site_of(made, tmp_path), ready, Offer(network)).check == "agrees"


def test_validation_pictures_do_where_there_are_no_test_pictures(made: TrunkInSecretOrder, tmp_path: Path) -> None:
    receipt = site_of(made, tmp_path, tests=0, vals=3)
    network, ready = offered(made, tmp_path)
    for epoch in (2, 3, 4):
        score(receipt, made, epoch, common_pb2.SPLIT_VAL)
    assert receive(receipt, ready, Offer(network)).check == "agrees"
    assert DeliveredNetwork.at(tmp_path).record.check.split == "val"


@pytest.mark.parametrize(("tests", "reason"), [(0, "neither test nor validation pictures"), (3, "were not scored")])
def test_what_can_not_be_compared_says_why(made: TrunkInSecretOrder, tmp_path: Path, tests: int, reason: str) -> None:
    network, ready = offered(made, tmp_path)
    assert receive(site_of(made, tmp_path, tests=tests), ready, Offer(network)).check == "unchecked"
    assert reason in DeliveredNetwork.at(tmp_path).record.check.reason


def test_another_network_than_was_scored_is_an_error_in_the_log(
    made: TrunkInSecretOrder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Exact or rounded, a network with its classes mixed up is found out; a small change only where all is exact."""
    for name, wire, change, verdict in (
        ("exact", None, 1e-2, "differs"),
        ("small", "q6", 1e-2, "coded"),
        ("rounded", "q6", None, "differs"),
    ):
        state = tmp_path / name
        state.mkdir()
        one = TrunkInSecretOrder(channels=1, side=28)
        if wire is not None:
            one.plan = replace(one.plan, wire=WireSettings(codec=wire))
        receipt = site_of(one, state)
        score(receipt, one, 3)
        with torch.no_grad():
            last = one.trunk.get_submodule("classifier.3")
            last.bias.copy_(last.bias + change if change else last.bias.flip(0) - 40 * torch.arange(4))
        network, ready = offered(one, state)
        with caplog.at_level(logging.ERROR, logger="mple"):
            caplog.clear()
            assert receive(receipt, ready, Offer(network)).check == verdict
        assert [record.levelname for record in caplog.records] == (["ERROR"] if verdict == "differs" else [])


def test_bf16_and_noise_are_stated(tmp_path: Path) -> None:
    made = TrunkInSecretOrder(channels=1, side=28, delivery=DeliverySettings(dtype=DeliveredDtype.BF16))
    made.plan = replace(made.plan, privacy=PrivacySettings(mode=PrivacyMode.NOISE))
    receipt = site_of(made, tmp_path)
    network, ready = offered(made, tmp_path)
    score(receipt, made, 3)
    assert receive(receipt, ready, Offer(network)).check == "coded"
    check = DeliveredNetwork.at(tmp_path).record.check
    assert check.reason == "delivered in bf16, the trunk saw pictures with noise, the network is asked without"
    assert check.largest_difference is not None
    assert 1e-4 < check.largest_difference < 0.2
    assert network.total_bytes < 0.6 * sum(t.nbytes for t in made.trunk.state_dict().values())


def test_what_the_plan_does_not_train_is_refused(made: TrunkInSecretOrder, tmp_path: Path) -> None:
    network, ready = offered(made, tmp_path)
    receipt = site_of(made, tmp_path)

    def refused(code: ErrorCode, text: str, ready: pb.NetworkReady, offer: object, who: NetworkReceipt) -> None:
        with pytest.raises(MpleError, match=text) as fault:
            receive(who, ready, offer)
        assert fault.value.code is code

    def changed(**fields: Any) -> pb.NetworkReady:
        other = pb.NetworkReady()
        other.CopyFrom(ready)
        for name, value in fields.items():
            setattr(other, name, value)
        return other

    malformed = ErrorCode.MESSAGE_MALFORMED
    refused(malformed, "bytes after epoch 3", changed(total_bytes=2**63), Nobody(), receipt)
    refused(malformed, "bytes after epoch 3", changed(total_bytes=0), Nobody(), receipt)
    refused(malformed, "can't be", changed(epoch=0), Nobody(), receipt)
    refused(malformed, "after epoch 99", changed(epoch=99), Nobody(), receipt)
    none = replace(made.plan, delivery=DeliverySettings(to=DeliverTo.NONE))
    refused(malformed, 'delivery.to = "none"', ready, Nobody(), replace(receipt, plan=none))
    offer = Offer(network)
    refused(ErrorCode.FILE_DIGEST_MISMATCH, "announced was", changed(sha256=bytes(32)), offer, receipt)
    assert offer.offsets == [0, 0, 0]
    other = TrunkInSecretOrder(channels=1, side=28)
    other.trunk.get_submodule("features")[2] = nn.Conv2d(8, 7, 3, bias=False)  # type: ignore[operator]
    theirs, announced = offered(other, tmp_path)
    refused(malformed, "has shape", announced, Offer(theirs), receipt)
    assert not (tmp_path / "model").exists()
