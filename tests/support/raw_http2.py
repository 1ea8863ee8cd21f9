"""HTTP/2 by hand over mutual TLS, for what no gRPC client sends: connections without a call, headers without end."""

from __future__ import annotations

import socket
import ssl
import struct
from contextlib import suppress

from mple.rpc import TlsFiles
from mple.rpc.tls import split_address

_HEADERS, _SETTINGS, _CONTINUATION = 1, 4, 9
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_POST, _ENTERED, _AGAIN = b"\x83\x86", b"\x40\x01a\x00", b"\xbe"
"""As HPACK has it (RFC 7541): a method and a scheme; "a" without a value, entered in the table; the same by its number,
which costs one byte on the wire and 33 in the reader's reckoning."""


def frame(kind: int, payload: bytes, *, stream: int = 0) -> bytes:
    """A frame without flags: of headers, hence without their end."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, 0)) + struct.pack(">I", stream) + payload


class RawConnection:
    """One connection with a party's certificate, beyond its settings."""

    def __init__(self, address: str, files: TlsFiles, timeout_s: float = 10.0) -> None:
        """Connect. Raises OSError: the server closes the connection."""
        context = ssl.create_default_context(cafile=str(files.ca))
        context.load_cert_chain(str(files.certificate), str(files.key))
        context.set_alpn_protocols(["h2"])
        host, port = split_address(address)
        self.link = context.wrap_socket(socket.create_connection((host, port), timeout_s), server_hostname=host)
        self.link.sendall(_PREFACE + frame(_SETTINGS, b""))
        if not self.link.recv(1):
            raise ConnectionResetError("the server hung up")

    def begin_headers(self) -> None:
        """Send the first headers of a call, and that more are to come."""
        self.link.sendall(frame(_HEADERS, _POST + _ENTERED, stream=1))

    def go_on(self, size: int) -> None:
        """Send so many bytes of further headers, without end. Raises OSError: the server has had enough."""
        more = frame(_CONTINUATION, _AGAIN * 16_000, stream=1)
        self.link.sendall(more * (size // len(more) + 1))

    def closed_within(self, seconds: float) -> bool:
        """Whether the server closes the connection in time."""
        self.link.settimeout(seconds)
        try:
            while self.link.recv(1 << 16):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True

    def close(self) -> None:
        """Hang up."""
        with suppress(OSError):
            self.link.close()
