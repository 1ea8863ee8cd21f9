"""A channel that takes renewed certificates without a restart.

gRPC reads a channel's certificate once. So each new call looks whether the files have changed; if so, a new channel is
opened for it and all calls to come; calls that are open stay on the old one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import grpc

from mple.rpc.revoked import stamp_of
from mple.rpc.tls_files import TlsFiles

_LOGGER = logging.getLogger("mple.rpc")


class RenewedChannel:
    """The newest channel to one address."""

    def __init__(self, tls: TlsFiles, dial: Callable[[TlsFiles], grpc.Channel]) -> None:
        """Open a channel.

        Args:
            tls: Files of this node's certificate.
            dial: Opens a channel with their present contents.
        """
        self._tls, self._dial = tls, dial
        self._lock = threading.Lock()
        self._stamp = self._now()
        self._channel = dial(tls)
        self._old: list[grpc.Channel] = []
        self._closed = False

    def current(self) -> grpc.Channel:
        """A channel with the certificate that lies in the files now.

        While a renewal is half done, the files don't belong together, the channel of before is used on.
        """
        with self._lock:
            stamp = self._now()
            if stamp != self._stamp and not self._closed:
                try:
                    fresh = self._dial(self._tls)
                except (OSError, ValueError) as fault:
                    _LOGGER.warning("renewed certificate not used yet: %s", fault)
                    return self._channel
                _LOGGER.info("certificate %s was renewed; new calls use it", self._tls.certificate)
                self._stamp = stamp
                self._old.append(self._channel)  # its open calls go on; it is closed with this one
                self._channel = fresh
            return self._channel

    def close(self) -> None:
        """Break off open calls and all connections; a second call does nothing."""
        with self._lock:
            self._closed = True
            for channel in (*self._old, self._channel):
                channel.close()
            self._old.clear()

    def _now(self) -> tuple[tuple[int, int, int] | None, ...]:
        return stamp_of(self._tls.ca, self._tls.certificate, self._tls.key)
