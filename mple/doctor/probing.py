"""The looking itself: name service, sockets, handshakes, probe calls. Everything here returns what was seen."""

import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from mple.doctor.diagnosis import AnswerSeen, CallFailed, ShakeSeen, SpeedSeen
from mple.meter import Ledger
from mple.rpc import Party, TlsFiles, error_of, open_channel
from mple.rpc.node_service import MOST_PADDING_BYTES
from mple.v1 import node_pb2, node_pb2_grpc

_ROUNDS = 4
_SPEED_BUDGET_S = 8.0
"""After so much time each way no further round is begun."""
_MIB = 1024 * 1024


def look_up(host: str) -> tuple[str, ...] | OSError | UnicodeError:
    """All addresses of a name, in the order in which they would be dialled, or why there are none."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as fault:
        return fault
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


def dial(address: str, port: int, timeout_s: float) -> OSError | None:
    """Connect to one address and hang up; None when that went well."""
    try:
        socket.create_connection((address, port), timeout_s).close()
    except OSError as fault:
        return fault
    return None


def shake_hands(host: str, address: str, port: int, own: TlsFiles | None, timeout_s: float) -> ShakeSeen | OSError:
    """A TLS handshake that takes any certificate, to look at it; nothing is sent over the connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if own is not None:
        context.load_cert_chain(str(own.certificate), str(own.key))
    try:
        with (
            socket.create_connection((address, port), timeout_s) as raw,
            context.wrap_socket(raw, server_hostname=host) as link,
        ):
            return ShakeSeen(link.version() or "TLS", link.getpeercert(binary_form=True) or b"")
    except OSError as fault:
        return fault


@contextmanager
def probe_calls(address: str, own: TlsFiles, remote: Party) -> Iterator[node_pb2_grpc.NodeServiceStub]:
    """A connection for probe calls; its ledger is thrown away."""
    with (
        tempfile.TemporaryDirectory(prefix="mple-doctor-") as folder,
        Ledger(Path(folder) / "ledger.sqlite", "doctor") as ledger,
        open_channel(address, own, remote, ledger) as channel,
    ):
        yield node_pb2_grpc.NodeServiceStub(channel)


def ask(stub: node_pb2_grpc.NodeServiceStub, timeout_s: float) -> AnswerSeen | CallFailed:
    """One call to open the connection, one to compare the clocks by."""
    try:
        stub.Probe(node_pb2.ProbeRequest(), timeout=timeout_s)
        sent_s = time.time()
        said = stub.Probe(node_pb2.ProbeRequest(), timeout=timeout_s)
        back_s = time.time()
    except grpc.RpcError as fault:
        return _failed(fault)
    return AnswerSeen(
        label=said.label,
        protocol_version=said.protocol_version,
        program_version=said.program_version,
        skew_s=said.time_unix_ms / 1000 - (sent_s + back_s) / 2,
        skew_error_s=max(0.001, (back_s - sent_s) / 2),
    )


def measure_speed(stub: node_pb2_grpc.NodeServiceStub, timeout_s: float) -> SpeedSeen | CallFailed:
    """A MiB a few times up, as often down, and the fastest of as many empty calls."""

    def seconds(request: node_pb2.ProbeRequest) -> float:
        began_s = time.perf_counter()
        stub.Probe(request, timeout=timeout_s)
        return time.perf_counter() - began_s

    def mib_s(request: node_pb2.ProbeRequest) -> float:
        spent_s, rounds = 0.0, 0
        while rounds < _ROUNDS and spent_s < _SPEED_BUDGET_S:
            spent_s += seconds(request)
            rounds += 1
        return rounds * MOST_PADDING_BYTES / _MIB / spent_s

    try:
        fastest_s = min(seconds(node_pb2.ProbeRequest()) for _ in range(_ROUNDS))
        up_mib_s = mib_s(node_pb2.ProbeRequest(padding=bytes(MOST_PADDING_BYTES)))
        return SpeedSeen(up_mib_s, mib_s(node_pb2.ProbeRequest(want_bytes=MOST_PADDING_BYTES)), fastest_s * 1000)
    except grpc.RpcError as fault:
        return _failed(fault)


def _failed(fault: grpc.RpcError) -> CallFailed:
    if not isinstance(fault, grpc.Call):
        return CallFailed(status="UNKNOWN", detail=str(fault))
    error = error_of(fault)
    if error is not None:
        return CallFailed(status=fault.code().name, code=error.code, detail=str(error))
    return CallFailed(status=fault.code().name, detail=(fault.details() or "no detail").splitlines()[0])
