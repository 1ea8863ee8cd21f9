"""Who is let in, by certificate only, and how errors leave: with code and detail, or as INTERNAL with neither."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from mple.pki import Authority
from mple.rpc import ErrorCode, MpleError, Role, TlsFiles, error_of
from mple.rpc.errors import METADATA_KEY
from mple.v1 import coordinator_pb2, coordinator_pb2_grpc
from tests.support.certificates import forge
from tests.support.served import PartyTls, Served

DEADLINE_S = 20.0
SECRET = "/var/lib/mple/vault/morph.key"


def join(served: Served, files: TlsFiles) -> str:
    """Who a caller with these files is taken for."""
    credentials = grpc.ssl_channel_credentials(
        files.ca.read_bytes(), files.key.read_bytes(), files.certificate.read_bytes()
    )
    with grpc.secure_channel(served.address, credentials) as channel:
        stub = coordinator_pb2_grpc.CoordinatorServiceStub(channel)
        return str(stub.Join(coordinator_pb2.JoinRequest(), timeout=DEADLINE_S).run_id)


def fault_of(call: Callable[[], object]) -> grpc.Call:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert isinstance(caught.value, grpc.Call)
    return caught.value


def error_from(call: Callable[[], object]) -> MpleError:
    fault = fault_of(call)
    assert isinstance(fault, grpc.RpcError)
    error = error_of(fault)
    assert error is not None, fault.details()
    return error


@pytest.mark.parametrize(("role", "name"), [(Role.SITE, "north"), (Role.SITE, "south"), (Role.COMPUTE, "gpu-1")])
def test_the_caller_is_who_the_certificate_says(served: Served, party_tls: PartyTls, role: Role, name: str) -> None:
    assert join(served, party_tls(role, name)) == f"{role}/{name}"


def test_role_that_may_not_call(served: Served, party_tls: PartyTls) -> None:
    error = error_from(lambda: join(served, party_tls(Role.COORDINATOR, "coordinator")))
    assert error.code is ErrorCode.ROLE_NOT_ALLOWED
    assert error.detail == "coordinator/coordinator calls Join"


def test_role_that_may_not_open_a_stream(served: Served) -> None:
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial(Role.COMPUTE, "compute"))
    error = error_from(lambda: next(stub.Watch(coordinator_pb2.WatchRequest(after_sequence=1), timeout=DEADLINE_S)))
    assert error.code is ErrorCode.ROLE_NOT_ALLOWED


def test_foreign_consortium(served: Served, authority: Authority, tmp_path: Path) -> None:
    files = forge(authority, tmp_path / "tls", uris=("mple://other/site/north",))
    error = error_from(lambda: join(served, files))
    assert error.code is ErrorCode.FOREIGN_CONSORTIUM
    assert error.detail == "mple://other/site/north calls consortium test"


@pytest.mark.parametrize(
    ("uris", "detail"),
    [
        ((), "the certificate bears 0 mple URIs; needs one"),
        (("mple://test/site/a", "mple://test/compute/a"), "the certificate bears 2 mple URIs; needs one"),
        (("mple://test/boss/a",), "'mple://test/boss/a' is no identity"),
        (("mple://test/site/a/b",), "'mple://test/site/a/b' is no identity"),
        (("https://test/site/a",), "the certificate bears 0 mple URIs; needs one"),
    ],
)
def test_certificate_that_does_not_identify(
    served: Served, authority: Authority, tmp_path: Path, uris: tuple[str, ...], detail: str
) -> None:
    error = error_from(lambda: join(served, forge(authority, tmp_path / "tls", uris=uris)))
    assert error.code is ErrorCode.UNIDENTIFIED
    assert error.detail.startswith(detail)


@pytest.mark.parametrize("code", [code for code in ErrorCode if code is not ErrorCode.INTERNAL])
def test_an_error_crosses_with_code_and_detail(served: Served, code: ErrorCode) -> None:
    served.coordinator.fault = MpleError(code, "layer 3: of 5")
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial())
    fault = fault_of(lambda: stub.Report(coordinator_pb2.ReportRequest(), timeout=DEADLINE_S))
    assert fault.code() is code.status
    assert isinstance(fault, grpc.RpcError)
    error = error_of(fault)
    assert error is not None
    assert (error.code, error.detail, str(error)) == (code, "layer 3: of 5", str(served.coordinator.fault))
    assert error.retryable is served.coordinator.fault.retryable


def test_an_error_crosses_without_detail(served: Served) -> None:
    served.coordinator.fault = MpleError(ErrorCode.WRONG_PHASE)
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial())
    error = error_from(lambda: stub.Report(coordinator_pb2.ReportRequest(), timeout=DEADLINE_S))
    assert (error.code, error.detail) == (ErrorCode.WRONG_PHASE, "")


@pytest.mark.parametrize("sign", ["x", "é", "漢", "\n", "%"])
def test_a_long_detail_does_not_hide_the_code(served: Served, sign: str) -> None:
    """gRPC replaces the status of a call whose headers are too long; a site's class names may well be."""
    served.coordinator.fault = MpleError(ErrorCode.SCHEMA_MISMATCH, sign * 20_000)
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial())
    error = error_from(lambda: stub.Report(coordinator_pb2.ReportRequest(), timeout=DEADLINE_S))
    assert error.code is ErrorCode.SCHEMA_MISMATCH
    assert set(error.detail) == set("\\n" if sign == "\n" else sign)
    assert len(error.detail) > 200


def test_an_error_within_a_stream_comes_after_what_was_sent(served: Served) -> None:
    served.coordinator.fault = MpleError(ErrorCode.RUN_FAILED, "site/south: no disk")
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial())
    stream = stub.Watch(coordinator_pb2.WatchRequest(after_sequence=3), timeout=DEADLINE_S)
    assert [next(stream).sequence for _ in range(3)] == [0, 1, 2]
    error = error_from(lambda: next(stream))
    assert (error.code, error.detail) == (ErrorCode.RUN_FAILED, "site/south: no disk")


def test_the_way_out_crosses_the_wire_apart(served: Served) -> None:
    served.coordinator.fault = MpleError(ErrorCode.UNKNOWN_PARTY, "site/été", fix="ask for a seat: é")
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial())
    error = error_from(lambda: stub.Report(coordinator_pb2.ReportRequest(), timeout=DEADLINE_S))
    assert (error.code, error.detail, error.fix) == (ErrorCode.UNKNOWN_PARTY, "site/été", "ask for a seat: é")
    served.coordinator.fault = MpleError(ErrorCode.INTERNAL, "x", fix=SECRET)
    assert error_from(lambda: stub.Report(coordinator_pb2.ReportRequest(), timeout=DEADLINE_S)).fix == ""


@pytest.mark.parametrize("kind", ["unary", "stream"])
@pytest.mark.parametrize(
    "fault",
    [ValueError(f"can't read {SECRET}"), KeyError(SECRET), MpleError(ErrorCode.INTERNAL, f"can't read {SECRET}")],
    ids=["ValueError", "KeyError", "MpleError"],
)
def test_an_unexpected_exception_is_internal_and_stays_here(
    served: Served, kind: str, fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    served.coordinator.fault = fault
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial())
    calls: dict[str, Callable[[], object]] = {
        "unary": lambda: stub.Report(coordinator_pb2.ReportRequest(), timeout=DEADLINE_S),
        "stream": lambda: next(stub.Watch(coordinator_pb2.WatchRequest(), timeout=DEADLINE_S)),
    }
    with caplog.at_level(logging.ERROR, "mple.rpc"):
        crossed = fault_of(calls[kind])
    assert crossed.code() is grpc.StatusCode.INTERNAL
    assert dict(crossed.trailing_metadata())[METADATA_KEY] == "INTERNAL"
    assert "its log has the details" in str(crossed.details())
    assert SECRET not in f"{crossed.details()} {crossed.trailing_metadata()} {crossed.initial_metadata()} {crossed!r}"
    assert SECRET in caplog.text, "the cause is in this side's log"


def test_a_failed_call_of_the_network_bears_no_error_of_ours(party_tls: PartyTls, served: Served) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        free = listener.getsockname()[1]
    stub = coordinator_pb2_grpc.CoordinatorServiceStub(served.dial(address=f"127.0.0.1:{free}"))
    fault = fault_of(lambda: stub.Join(coordinator_pb2.JoinRequest(), timeout=DEADLINE_S))
    assert fault.code() is grpc.StatusCode.UNAVAILABLE
    assert isinstance(fault, grpc.RpcError)
    assert error_of(fault) is None
    assert error_of(grpc.RpcError()) is None


def test_a_code_of_a_newer_peer_stays_a_fault_of_grpc() -> None:
    """Its status still says whether to try again."""

    def refuse(_request: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata(((METADATA_KEY, "SOME_LATER_CODE"),))
        context.abort(grpc.StatusCode.UNAVAILABLE, "SOME_LATER_CODE: a sentence")

    server = grpc.server(ThreadPoolExecutor(1))
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {"Refuse": grpc.unary_unary_rpc_method_handler(refuse)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Newer", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test.Newer/Refuse")
        fault = fault_of(lambda: call(b"", timeout=DEADLINE_S))
    server.stop(None)
    assert fault.details() == "SOME_LATER_CODE: a sentence"
    assert isinstance(fault, grpc.RpcError)
    assert error_of(fault) is None


def test_the_catalogue_is_whole() -> None:
    assert len({code.sentence for code in ErrorCode}) == len(ErrorCode)
    for code in ErrorCode:
        assert code.value == code.name, "names are stable: scripts rely on them"
        assert code.status is not grpc.StatusCode.UNKNOWN, "gRPC's own for exceptions that nobody caught"


@pytest.mark.parametrize(
    ("code", "retryable"),
    [
        (ErrorCode.WRONG_PHASE, True),
        (ErrorCode.STREAM_TRUNCATED, True),
        (ErrorCode.CHECKSUM_MISMATCH, True),
        (ErrorCode.FILE_OFFSET, True),
        (ErrorCode.DUPLICATE_STREAM, True),
        (ErrorCode.ROLE_NOT_ALLOWED, False),
        (ErrorCode.PLAN_HASH_MISMATCH, False),
        (ErrorCode.RUN_FAILED, False),
        (ErrorCode.STALLED, False),
        (ErrorCode.INTERNAL, False),
    ],
)
def test_which_refusals_may_pass_later(code: ErrorCode, retryable: bool) -> None:
    assert MpleError(code).retryable is retryable
