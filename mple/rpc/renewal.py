"""A channel that takes renewed certificates without a restart, and leaves a server whose certificate was revoked.

One whose party's name could not be looked up is replaced, too: gRPC would wait for up to two minutes before it looks it
up again, and let every call fail meanwhile, though the name is known again.

gRPC reads a channel's certificate once. So each new call looks whether the files have changed; if so, a new channel is
opened for it and all calls to come; calls that are open stay on the old one, which is closed after the last of them.

gRPC knows no lists of revoked certificates either, and does not tell whose certificate a server has shown. So whenever
the list changes, a handshake of our own looks.
"""

import logging
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from mple.audit import audit
from mple.disk.stamps import stamp_of
from mple.disk.storage_faults import note_storage_fault
from mple.per_node import start_thread
from mple.rounds import each_second
from mple.rpc.errors import ErrorCode
from mple.rpc.identity import Party
from mple.rpc.revoked import FreshList, revoked_beside
from mple.rpc.tls import checked_party, probe
from mple.rpc.tls_files import TlsFiles

_LOGGER = logging.getLogger("mple.rpc")
_UNRESOLVED = re.compile("errors resolving|DNS resolution failed")
"""What gRPC says of a name that it could not look up, before which it made no connection."""


class RevokedServerError(grpc.RpcError):
    """The party's certificate was revoked: no call is made, and open ones were broken off."""


@dataclass(slots=True)
class ChannelSlot:
    """One of gRPC's channels, and how many calls are open on it."""

    channel: grpc.Channel
    calls: int = 0


class RenewedChannel:
    """The newest channel to one party."""

    def __init__(self, address: str, tls: TlsFiles, remote: Party, dial: Callable[[TlsFiles], grpc.Channel]) -> None:
        """Open a channel to the party at an address; `dial` opens one with the files' present contents."""
        self._address, self._tls, self._remote, self._dial = address, tls, remote, dial
        self._revoked: FreshList = revoked_beside(tls.ca)
        self._looked_with = 0
        self._refused: str | None = None
        self._lock = threading.Lock()
        self._stamp = self._rejected = self._now()
        self._line = ChannelSlot(dial(tls))
        self._unresolved = False
        self._old: list[ChannelSlot] = []
        self._closed = threading.Event()
        self._looking: threading.Thread | None = None
        self._withdraw = each_second(self._look)

    def call(self, begin: Callable[[grpc.Channel], Any], *, stays_open: bool) -> Any:
        """What `begin` returns when it makes a call on the newest channel.

        A call that `stays_open` goes on after `begin` has returned it, until it says that it is over.

        Raises RevokedServerError: the party's certificate was revoked.
        """
        line = self._take()
        try:
            made = begin(line.channel)
        except BaseException as broken:
            self._leave(line, broken)
            raise
        if not stays_open:
            self._leave(line)
        elif not made.add_callback(lambda: self._leave(line, made)):
            self._leave(line, made)
        return made

    def current(self) -> grpc.Channel:
        """The channel that the next call is made on."""
        with self._lock:
            self._renew()
            return self._line.channel

    def close(self) -> None:
        """Break off open calls and all connections; a second call does nothing."""
        self._closed.set()
        self._withdraw()
        with self._lock:
            old, self._old = self._old, []
        for line in (*old, self._line):
            line.channel.close()

    def _take(self) -> ChannelSlot:
        with self._lock:
            if self._refused is not None:
                raise RevokedServerError(self._refused)
            self._renew()
            self._line.calls += 1
            return self._line

    def _leave(self, line: ChannelSlot, ended: object = None) -> None:
        unresolved = isinstance(ended, grpc.Call) and _UNRESOLVED.search(ended.details() or "") is not None
        with self._lock:
            line.calls -= 1
            self._unresolved |= unresolved and line is self._line

    def _renew(self) -> None:
        """Open a channel with the certificate that lies in the files now, if it or the address has to be looked at
        again. While a renewal is half done, the files don't belong together, the channel of before is used on."""
        stamp = self._now()
        if (stamp == self._stamp and not self._unresolved) or self._closed.is_set():
            return
        try:
            checked_party(self._tls)
            fresh = self._dial(self._tls)
        except (OSError, ValueError) as fault:
            if stamp != self._rejected:
                _LOGGER.warning("renewed certificate not used yet: %s", fault)
            self._rejected = stamp
            return
        if stamp != self._stamp:
            _LOGGER.info("certificate %s was renewed; new calls use it", self._tls.certificate)
        self._unresolved = False
        self._replace(fresh, stamp)

    def _replace(self, fresh: grpc.Channel, stamp: tuple[tuple[int, int, int] | None, ...]) -> None:
        self._old.append(self._line)
        self._line, self._stamp = ChannelSlot(fresh), stamp

    def _look(self) -> None:
        if self._closed.is_set():
            return
        self._close_old()
        due = self._revoked.now().number != self._looked_with or self._refused is not None
        if due and (self._looking is None or not self._looking.is_alive()):
            self._looking = start_thread("channel", self._look_at_server)  # it may take seconds

    def _close_old(self) -> None:
        with self._lock:
            idle = [line for line in self._old if line.calls == 0]
            self._old = [line for line in self._old if line.calls]
        for line in idle:
            line.channel.close()

    def _look_at_server(self) -> None:
        try:
            number = self._revoked.now().number
            seen = probe(self._address, self._tls)
            if seen.away or self._closed.is_set():
                return  # at the next look
            self._looked_with = number
            if not seen.revoked:
                self._refused = None
            elif self._refused is None:
                self._refuse(seen.fault or "")
        except Exception as fault:  # it is looked at again
            note_storage_fault(fault)
            _LOGGER.error("can't look whether the certificate of %s was revoked: %r", self._remote.label, fault)

    def _refuse(self, why: str) -> None:
        _LOGGER.error("%s; calls to %s are broken off", why, self._remote.label)
        with self._lock:
            self._refused = why
            self._replace(self._dial(self._tls), self._now())
            broken, self._old = self._old, []
            calls = sum(line.calls for line in broken)
        for line in broken:
            line.channel.close()
        audit(self._remote.label, "server_left", ErrorCode.CERTIFICATE_REVOKED, calls=calls)

    def _now(self) -> tuple[tuple[int, int, int] | None, ...]:
        return stamp_of(self._tls.ca, self._tls.certificate, self._tls.key)
