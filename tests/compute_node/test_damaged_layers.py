"""A layer's file is used only if its bytes are those of its digest: else it is fetched again, after every start."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from compute_node.layers.layer_bank import LayerBank
from compute_node.layers.layer_fetch import fetch_layer
from compute_node.layers.restore import restored_bank
from mple.node.coordinator_client import CoordinatorClient
from mple.records.layer_list import LayerList, RevokedKey, layer_path, write_list
from mple.rpc.file_transfer import chunks_of
from mple.v1 import coordinator_pb2
from tests.compute_node.test_key_layers import PLAN, header, layer, next_key, next_ref, put
from tests.support.small_plan import key_of, key_ref

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "last bit": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "cut": lambda content: content[:-4096],
    "zeros": lambda content: content[: len(content) // 2] + bytes(4096) + content[len(content) // 2 + 4096 :],
    "empty": lambda _: b"",
}


class Source:
    """A coordinator that has one layer."""

    def __init__(self, path: Path) -> None:
        self.path, self.asked = path, 0
        self.stub, self.retry = self, SimpleNamespace(call=lambda attempt, *_: attempt())

    def DownloadLayer(
        self, request: coordinator_pb2.DownloadLayerRequest, timeout: float
    ) -> Iterator[coordinator_pb2.DownloadLayerResponse]:
        self.asked += 1
        for chunk in chunks_of(self.path, request.offset, self.path.stat().st_size):
            yield coordinator_pb2.DownloadLayerResponse(offset=chunk.offset, data=chunk.data, final=chunk.final)


@pytest.mark.parametrize("damage", [*DAMAGE, "swapped", "gone"])
def test_a_damaged_layer_is_fetched_again(tmp_path: Path, damage: str) -> None:
    digest = put(tmp_path / "theirs", layer(key_of("north")))
    source = Source(layer_path(tmp_path / "theirs", digest))
    whole = source.path.read_bytes()
    released = coordinator_pb2.LayerHeader(key_ref=key_ref("north"), total_bytes=len(whole), sha256=digest)
    ours, client = tmp_path / "ours", cast(CoordinatorClient, source)
    fetch_layer(client, released, PLAN, LayerBank(PLAN), ours)
    fetch_layer(client, released, PLAN, LayerBank(PLAN), ours)
    assert source.asked == 1, "a sound one is not fetched twice"
    path = layer_path(ours, digest)
    if damage == "gone":
        path.unlink()
    elif damage == "swapped":
        path.write_bytes(layer_path(ours, put(ours, layer(key_of("south")))).read_bytes())
    else:
        path.write_bytes(DAMAGE[damage](whole))
    bank = LayerBank(PLAN)
    fetch_layer(client, released, PLAN, bank, ours)
    assert (source.asked, path.read_bytes()) == (2, whole)
    assert bank.usable(key_ref("north"))


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_layer_of_a_rotated_or_revoked_key_is_not_taken_up(tmp_path: Path, damage: str) -> None:
    digest = put(tmp_path, layer(next_key("north", 2), 2))
    listed = LayerList(PLAN.sha256().hex()).with_rotated(header(next_ref("north", 2), digest))
    write_list(tmp_path, listed)
    path, number = layer_path(tmp_path, digest), len(PLAN.sites)
    assert hashlib.sha256(path.read_bytes()).digest() == digest
    assert number in restored_bank(tmp_path, PLAN).layers
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    assert number not in restored_bank(tmp_path, PLAN).layers
    write_list(tmp_path, listed.with_revoked(RevokedKey("north", 2, 5, 7, erased=False)))
    assert number not in restored_bank(tmp_path, PLAN).layers
