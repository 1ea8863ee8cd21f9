"""Refused calls come into the audit trail; a fault of the disk crosses as such and is noted for the node's end."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from mple.audit import FILE_NAME, AuditEntry, AuditTrail, close_audit, open_audit, read_entries, verify
from mple.disk.storage_faults import watched_storage
from mple.pki import Authority
from mple.rpc import ErrorCode, MpleError, Role, error_of
from mple.v1 import compute_pb2, compute_pb2_grpc, coordinator_pb2, coordinator_pb2_grpc
from tests.support.certificates import forge
from tests.support.served import Served

DEADLINE_S = 20.0


@pytest.fixture(autouse=True)
def opened(tmp_path: Path) -> Iterator[AuditTrail]:
    folder = tmp_path / "audited"
    folder.mkdir()
    yield open_audit(folder, "coordinator/coordinator")
    close_audit()


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    return tmp_path / "audited" / FILE_NAME


def refused(call: Callable[[], object]) -> MpleError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error = error_of(caught.value)
    assert error is not None
    return error


def report(served: Served, role: Role = Role.SITE) -> Callable[[], object]:
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial(role, "north"))
    return lambda: stub.Report(coordinator_pb2.ReportRequest(), timeout=DEADLINE_S)


def only_entry(trail: Path) -> AuditEntry:
    (entry,) = read_entries(trail)
    return entry


def test_who_was_refused_what_and_why(served: Served, trail: Path) -> None:
    refused(report(served, Role.COMPUTE))
    entry = only_entry(trail)
    assert (entry.who, entry.what, entry.result) == ("compute/north", "refused", "ROLE_NOT_ALLOWED")
    assert entry.facts == {"method": "Report", "detail": "compute/north calls Report"}


def test_a_foreigner_is_named_with_its_consortium(
    served: Served, trail: Path, authority: Authority, tmp_path: Path
) -> None:
    files = forge(authority, tmp_path / "tls", uris=("mple://other/site/north",))
    credentials = grpc.ssl_channel_credentials(
        files.ca.read_bytes(), files.key.read_bytes(), files.certificate.read_bytes()
    )
    with grpc.secure_channel(served.address, credentials) as channel:
        stub = coordinator_pb2_grpc.CoordinatorServiceStub(channel)
        refused(lambda: stub.Join(coordinator_pb2.JoinRequest(), timeout=DEADLINE_S))
    entry = only_entry(trail)
    assert (entry.who, entry.result) == ("mple://other/site/north", "FOREIGN_CONSORTIUM")


def test_what_is_internal_stays_out_of_the_trail(served: Served, trail: Path) -> None:
    served.coordinator.fault = ValueError("can't read /secret")
    refused(report(served))
    entry = only_entry(trail)
    assert entry.result == "INTERNAL"
    assert "secret" not in trail.read_text(encoding="ascii")


def test_a_flood_of_refusals_makes_few_lines(served: Served, opened: AuditTrail, trail: Path) -> None:
    call = report(served, Role.COMPUTE)
    for _ in range(50):
        refused(call)
    opened.refusals.tell_rest()
    entries = list(read_entries(trail))
    assert len(entries) <= 11 * 3  # three windows, were this machine so slow
    assert sum(int(entry.facts.get("calls", 1)) for entry in entries) == 50
    assert verify(trail).sound


def sqlite_full() -> sqlite3.OperationalError:
    ledgers = sqlite3.connect(":memory:")
    ledgers.execute("PRAGMA max_page_count = 1")
    with pytest.raises(sqlite3.OperationalError, match="full") as caught:
        ledgers.execute("CREATE TABLE t (x)")
    ledgers.close()
    return caught.value


@pytest.mark.parametrize(
    "fault",
    [
        OSError(errno.ENOSPC, "No space left on device", "/var/lib/mple/cache.bin"),
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.EROFS, "Read-only file system"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        sqlite_full(),
    ],
    ids=["ENOSPC", "EIO", "EROFS", "EDQUOT", "sqlite"],
)
def test_a_full_disk_crosses_as_such_and_ends_the_node(served: Served, fault: Exception) -> None:
    ended: list[bool] = []
    served.coordinator.fault = fault
    with watched_storage(lambda: ended.append(True)) as disk:
        error = refused(report(served))
    assert (error.code, error.detail, error.retryable) == (ErrorCode.STORAGE_FULL, "", True)
    assert disk.fault is fault
    assert ended == [True]


def test_a_fault_that_is_none_of_the_disk_is_not_noted(served: Served) -> None:
    served.coordinator.fault = OSError(errno.ENOENT, "No such file or directory")
    with watched_storage(lambda: None) as disk:
        assert refused(report(served)).code is ErrorCode.INTERNAL
    assert disk.fault is None


def test_a_server_whose_ledgers_are_full_says_so_in_calls_of_each_kind(served: Served) -> None:
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial())
    compute = compute_pb2_grpc.ComputeServiceStub(served.dial(name="south"))
    served.ledger._connection.execute("PRAGMA max_page_count = 1")
    chunk = coordinator_pb2.UploadLayerRequest(data=b"x")

    def until_full() -> object:
        while True:
            stub.Join(coordinator_pb2.JoinRequest(), timeout=DEADLINE_S)

    calls: list[Callable[[], object]] = [
        until_full,
        lambda: list(stub.Watch(coordinator_pb2.WatchRequest(after_sequence=3), timeout=DEADLINE_S)),
        lambda: stub.UploadLayer(iter([chunk]), timeout=DEADLINE_S),
        lambda: list(compute.Feed(iter([compute_pb2.FeedRequest()]), timeout=DEADLINE_S)),
    ]
    with watched_storage(lambda: None) as disk:
        assert [refused(call).code for call in calls] == [ErrorCode.STORAGE_FULL] * 4
    assert disk.fault is not None


def test_bytes_that_are_no_message_are_the_callers_fault(served: Served) -> None:
    channel = served.dial()
    raw: Callable[..., bytes] = channel.unmetered.current().unary_unary("/mple.v1.CoordinatorService/Join")
    error = refused(lambda: raw(b"\xff\xff\xff", timeout=DEADLINE_S))
    assert error.code is ErrorCode.MESSAGE_MALFORMED
