"""Remote calls: one channel factory, one server factory, one error catalogue; mutual TLS and metering always on."""

import os

# gRPC reads this at import. No process of ours forks after a channel exists, and its fork hooks cost and hang.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# It would write a line to stderr for whatever a peer does wrong, without end, beside the log that we bound.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from mple.rpc.channel import grpc_running, open_channel
from mple.rpc.errors import ErrorCode, MpleError, error_for, error_of
from mple.rpc.guard import guarded
from mple.rpc.identity import Party, Role
from mple.rpc.server import PortError, RpcServer, build_server
from mple.rpc.tls import own_party, probe, verify_remote
from mple.rpc.tls_files import AwayError, TlsError, TlsFiles

__all__ = [
    "AwayError",
    "ErrorCode",
    "MpleError",
    "Party",
    "PortError",
    "Role",
    "RpcServer",
    "TlsError",
    "TlsFiles",
    "build_server",
    "error_for",
    "error_of",
    "grpc_running",
    "guarded",
    "open_channel",
    "own_party",
    "probe",
    "verify_remote",
]
