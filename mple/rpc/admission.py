"""What stands before all else in a server: whether the caller's certificate still counts, and how many calls one caller
may have open.

There are so many places for all callers together. Were one caller to take them all, by streams that never end or by
calls whose message never comes, nobody else would be served.
"""

import threading
from collections.abc import Mapping
from typing import NamedTuple

from cryptography import x509

from mple.audit import audit
from mple.rpc.call import Call
from mple.rpc.errors import ErrorCode, MpleError
from mple.rpc.identity import Role, label_of, peer_of
from mple.rpc.revoked import FreshList

CALLS_PER_CALLER = 8
"""A stream of each kind, the broken one that each may have replaced, and short calls beside them."""
ACCEPTED_KEY = "mple-accepted"
"""Initial metadata of every stream that is let in: so its caller can tell a link that broke from one that never was."""


class _Place(NamedTuple):
    caller: str
    serial: int


class Admission:
    """Refuses revoked callers, and calls beyond a caller's number. For any thread."""

    def __init__(self, *, per_caller: int, processes: Mapping[Role, int], revoked: FreshList) -> None:
        """Admit `per_caller` calls of one party at once, so many times as `processes` of its role have its certificate
        (1 by default)."""
        self._per_caller, self._processes, self._revoked = per_caller, processes, revoked
        self._open: dict[str, int] = {}
        self._places: dict[Call, _Place] = {}
        self._lock = threading.Lock()

    def enter(self, call: Call) -> None:
        """Give a call its place.

        Raises MpleError: CERTIFICATE_REVOKED; TOO_MANY_CALLS: its caller has as many as it may have.
        """
        try:
            party = peer_of(call)
            caller, most = party.uri, self._per_caller * self._processes.get(party.role, 1)
        except MpleError:
            caller, most = "", self._per_caller
        serial = _serial(call)
        revoked = self._revoked.now().entries.get(serial)
        if revoked is not None:
            raise MpleError(ErrorCode.CERTIFICATE_REVOKED, f"it was {revoked}")
        with self._lock:
            count = self._open.get(caller, 0)
            if count >= most:
                raise MpleError(ErrorCode.TOO_MANY_CALLS, f"{count} are open; end one first")
            self._open[caller] = count + 1
            self._places[call] = _Place(caller, serial)

    def leave(self, call: Call) -> None:
        """The call is over."""
        with self._lock:
            caller = self._places.pop(call).caller
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]

    def cut_revoked(self) -> int:
        """End the open calls of callers whose certificates have been revoked meanwhile; returns how many there were."""
        revoked = self._revoked.now().entries
        with self._lock:
            # Once: a call may take its time to end.
            cut = [call for call, place in self._places.items() if place.serial in revoked and not call.cut]
        for call in cut:
            audit(label_of(call), "call_cut", ErrorCode.CERTIFICATE_REVOKED)
            call.cancel()
        return len(cut)


def _serial(call: Call) -> int:
    """Serial number of the caller's certificate; TLS has checked it, -1 where it shows none."""
    shown = call.auth_context().get("x509_pem_cert", ())
    return x509.load_pem_x509_certificate(bytes(shown[0])).serial_number if shown else -1
