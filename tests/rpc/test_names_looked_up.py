"""A party's name that can't be looked up for a while: the next call after it is known again goes through."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from mple.rpc import Party, Role, TlsFiles
from mple.rpc.renewal import RenewedChannel
from mple.rpc.tls_files import TlsFiles as Files
from mple.v1 import coordinator_pb2, coordinator_pb2_grpc
from tests.support.served import PartyTls, Served

JOIN = coordinator_pb2.JoinRequest(protocol_version=3)


class Dialled:
    """Channels to a name that is unknown at first; how many were opened."""

    def __init__(self, address: str) -> None:
        self.address, self.known, self.count = address, False, 0

    def __call__(self, files: Files) -> grpc.Channel:
        self.count += 1
        credentials = grpc.ssl_channel_credentials(
            files.ca.read_bytes(), files.key.read_bytes(), files.certificate.read_bytes()
        )
        return grpc.secure_channel(self.address if self.known else "no-such-host.invalid:7400", credentials)


@pytest.fixture
def dialled(served: Served, party_tls: PartyTls) -> Iterator[tuple[RenewedChannel, Dialled]]:
    files: TlsFiles = party_tls(Role.SITE, "north")
    dial = Dialled(served.address)
    channel = RenewedChannel(served.address, files, Party("test", Role.COORDINATOR, "coordinator"), dial)
    yield channel, dial
    channel.close()


def joined(channel: RenewedChannel, kind: str) -> int:
    def begin(inner: grpc.Channel) -> object:
        join = coordinator_pb2_grpc.CoordinatorServiceStub(inner).Join
        return join(JOIN, timeout=20) if kind == "single" else join.future(JOIN, timeout=20)

    made = channel.call(begin, stays_open=kind == "future")
    return int((made.result() if kind == "future" else made).last_sequence)


@pytest.mark.parametrize("kind", ["single", "future"])
def test_a_name_that_is_known_again_is_looked_up_at_once(dialled: tuple[RenewedChannel, Dialled], kind: str) -> None:
    channel, dial = dialled
    for _ in range(6):
        with pytest.raises(grpc.RpcError, match="errors resolving"):
            joined(channel, kind)
    dial.known = True
    assert [joined(channel, kind) for _ in range(3)] == [3, 3, 3]
    assert dial.count == 7, "one for each failure, and none where all is well"


def test_other_failures_keep_the_channel(dialled: tuple[RenewedChannel, Dialled], served: Served) -> None:
    channel, dial = dialled
    with pytest.raises(grpc.RpcError):
        joined(channel, "single")
    dial.known = True
    assert joined(channel, "single") == 3
    served.rpc.stop(0)
    for _ in range(3):
        with pytest.raises(grpc.RpcError):
            joined(channel, "single")
    assert dial.count == 2
