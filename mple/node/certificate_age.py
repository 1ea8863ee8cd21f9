"""A warning in time: a node says at its start, and once a day, when its certificate is about to end."""

import time
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from mple.node.logs import warn
from mple.node.stop import Stop
from mple.rounds import each_second
from mple.rpc import TlsFiles

_WARN_DAYS = 14
_DAY_S = 86_400.0


def days_left(files: TlsFiles, now: datetime) -> float:
    """Days until the certificate ends; below 0 afterwards."""
    return seconds_left(files.certificate, now) / _DAY_S


def seconds_left(certificate: Path, now: datetime) -> float:
    """Seconds until a certificate ends; below 0 afterwards.

    Raises OSError: the file can't be read; ValueError: it is no certificate.
    """
    end = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    return (end - now).total_seconds()


def watch_certificate(files: TlsFiles, stop: Stop) -> None:
    """Look now, and once a day until `stop`."""
    _look(files)
    next_s = time.monotonic() + _DAY_S

    def look() -> None:
        nonlocal next_s
        if time.monotonic() < next_s:
            return
        next_s += _DAY_S
        try:
            _look(files)
        except (OSError, ValueError) as fault:
            warn("certificate_unreadable", f"{files.certificate} can't be read: {fault}")

    stop.on_set(each_second(look))


def _look(files: TlsFiles) -> None:
    left = days_left(files, datetime.now(UTC))
    if left < _WARN_DAYS:
        text = f"certificate {files.certificate} ends in {max(0, int(left))} days; make another with 'mple pki renew'"
        warn("certificate_ends", text, days=int(left))
