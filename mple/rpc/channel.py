"""The one factory of channels: mutual TLS, keepalive, receive limit, metering."""

from __future__ import annotations

import grpc

from mple.meter import Ledger
from mple.rpc.identity import Party
from mple.rpc.metering import MeteredChannel
from mple.rpc.settings import DIALLING_OPTIONS
from mple.rpc.tls import TlsFiles


def open_channel(address: str, tls: TlsFiles, remote: Party, ledger: Ledger) -> MeteredChannel:
    """A channel to a party whose certificate `verify_remote` has checked.

    gRPC verifies chain and host name at each connection; the caller's ledger gets every message under the remote's
    label.
    """
    credentials = grpc.ssl_channel_credentials(
        root_certificates=tls.ca.read_bytes(),
        private_key=tls.key.read_bytes(),
        certificate_chain=tls.certificate.read_bytes(),
    )
    return MeteredChannel(grpc.secure_channel(address, credentials, options=DIALLING_OPTIONS), ledger, remote.label)
