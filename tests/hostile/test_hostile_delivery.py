"""What a site may do about the delivery of the trained network, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from compute_node.network_file import NetworkFile
from mple.disk.whole_files import file_sha256
from mple.rpc import ErrorCode
from mple.v1 import compute_pb2, compute_pb2_grpc
from tests.fuzz.compute_target import FEED, ComputeTarget
from tests.hostile.test_hostile_to_compute import bytes_of, feeds, hello
from tests.support.open_coordinator import refused_call
from tests.support.raw_calls import Refusals, assert_refused, call

pb = compute_pb2
Node = Callable[..., ComputeTarget]
E = ErrorCode


def offered(node: ComputeTarget, folder: Path) -> NetworkFile:
    path = folder / "network"
    path.write_bytes(bytes(range(256)) * 5000)
    network = NetworkFile(path=path, total_bytes=path.stat().st_size, sha256=file_sha256(path))
    node.service.open_network(network)
    return network


def download(node: ComputeTarget, caller: str, sha256: bytes, **changes: object) -> bytes:
    stub = compute_pb2_grpc.ComputeServiceStub(node.channels[caller])
    request = pb.DownloadNetworkRequest(plan_sha256=node.plan.sha256(), sha256=sha256)
    for name, value in changes.items():
        setattr(request, name, value)
    return b"".join(chunk.data for chunk in stub.DownloadNetwork(request, timeout=30))


def test_a_site_gets_the_network_from_any_offset_on_and_nobody_else_any_of_it(
    node: Node, tmp_path: Path, audited: Refusals
) -> None:
    here = node()
    with refused_call(E.WRONG_PHASE, "no trained network yet"):
        download(here, "site/north", bytes(32))
    network = offered(here, tmp_path)
    whole = network.path.read_bytes()
    assert download(here, "site/north", network.sha256) == whole
    assert download(here, "site/north", network.sha256, offset=700_000) == whole[700_000:]
    assert download(here, "site/north", network.sha256, offset=len(whole)) == b""
    for caller, changes, code in (
        ("site/stranger", {}, E.UNKNOWN_PARTY),
        ("coordinator/coordinator", {}, E.ROLE_NOT_ALLOWED),
        ("site/north", {"plan_sha256": bytes(32)}, E.PLAN_HASH_MISMATCH),
        ("site/north", {"sha256": bytes(3_000_000)}, E.MESSAGE_MALFORMED),
        ("site/north", {"offset": len(whole) + 1}, E.FILE_OFFSET),
        ("site/north", {"offset": 2**64 - 1}, E.FILE_OFFSET),
    ):
        with refused_call(code):
            download(here, caller, **{"sha256": network.sha256, **changes})
        assert (caller, code) in audited()
    here.service.open_network(None)
    with refused_call(E.WRONG_PHASE):
        download(here, "site/north", network.sha256)
    assert feeds(here, "south")


@pytest.mark.parametrize("sha256", [b"", bytes(32), bytes(3_000_000)], ids=["no digest", "a digest", "3 MB"])
def test_a_network_that_nobody_offered_was_not_received(node: Node, audited: Refusals, sha256: bytes) -> None:
    here = node()
    received = pb.FeedRequest(network_received=pb.NetworkReceived(sha256=sha256, check="x" * 100_000))
    outcome = call(here.channels["site/north"], FEED, hello(here), bytes_of(received))
    assert_refused(outcome, E.UNKNOWN_REQUEST, "site/north", audited)
    assert feeds(here, "north")
