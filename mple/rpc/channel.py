"""The one factory of channels: mutual TLS, keepalive, receive limit, metering."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from grpc import _common

from mple.meter import Ledger, Measure, measure
from mple.rpc.identity import Party
from mple.rpc.metering import MeteredChannel
from mple.rpc.renewal import RenewedChannel
from mple.rpc.settings import DIALLING_OPTIONS
from mple.rpc.tls_files import TlsFiles

_LOOK_EVERY_S = 1.0
if hasattr(_common, "MAXIMUM_WAIT_TIMEOUT"):
    # gRPC wakes each thread that waits for a message so often, in case it is the main one and a signal has come. At its
    # own tenth of a second the idle streams of 100 sites in a process take a tenth of a core.
    _common.MAXIMUM_WAIT_TIMEOUT = _LOOK_EVERY_S


@contextmanager
def grpc_running() -> Iterator[None]:
    """gRPC's own threads and descriptors, from now to the block's end. It makes them with the first channel or server
    and again after the last one is closed, and where it then finds no descriptors it aborts the whole process."""
    channel = grpc.insecure_channel("unused.invalid:1")  # dials nobody: no call is made on it
    try:
        yield
    finally:
        channel.close()


def open_channel(
    address: str, tls: TlsFiles, remote: Party, ledger: Ledger, *, measure: Measure = measure
) -> MeteredChannel:
    """A channel to a party, `remote`, and to nobody else.

    At each connection TLS verifies the chain, that the certificate is for serving, and the remote's role, name and
    consortium, which a server's certificate bears as `Party.server_name`; at each call, the host that was dialled. gRPC
    for Python shows the server's certificate to nobody, so names are all that can be demanded of it.

    The caller's ledger gets every message under the remote's label. A renewed certificate is used for new calls without
    a restart, and calls to a party whose certificate is revoked are broken off. `measure` says what messages are; the
    default knows the product's.
    """

    # The authority carries its port: gRPC takes a host that equals the target's for checked by the handshake, which
    # has checked the other name.
    identity = (("grpc.ssl_target_name_override", remote.server_name), ("grpc.default_authority", address))

    def dial(files: TlsFiles) -> grpc.Channel:
        credentials = grpc.ssl_channel_credentials(
            root_certificates=files.ca.read_bytes(),
            private_key=files.key.read_bytes(),
            certificate_chain=files.certificate.read_bytes(),
        )
        return grpc.secure_channel(address, credentials, options=[*DIALLING_OPTIONS, *identity])

    return MeteredChannel(RenewedChannel(address, tls, remote, dial), ledger, remote.label, measure=measure)
