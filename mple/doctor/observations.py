"""What was seen of a peer at each step, as plain values: the probing makes them, the diagnosis judges them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reached(StrEnum):
    """How an attempt to connect to one address ended."""

    OPEN = "open"
    REFUSED = "refused"
    """The machine is there, nothing listens."""
    SILENT = "silent"
    """No answer in time."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class NameSeen:
    """Result of looking a host's name up."""

    addresses: tuple[str, ...]
    fault: str = ""
    """What the name service said when there are none."""


@dataclass(frozen=True, slots=True)
class PortSeen:
    """One address that was dialled."""

    address: str
    reached: Reached
    detail: str = ""
    """What the system said, for FAILED."""


class Shake(StrEnum):
    """How a TLS handshake that verifies nothing ended."""

    DONE = "done"
    PLAIN = "plain"
    """What answers does not speak TLS."""
    SILENT = "silent"
    CLOSED = "closed"
    """The connection was closed without an answer."""
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class ShakeSeen:
    """A TLS handshake that verified nothing, so that the certificate can be looked at whatever is wrong with it."""

    shake: Shake
    version: str = ""
    """Such as "TLSv1.3"."""
    certificate_der: bytes = b""
    detail: str = ""
    """The TLS library's reason, for FAILED."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerSeen:
    """What a probe call brought, or how it failed."""

    label: str = ""
    protocol_version: int = 0
    program_version: str = ""
    skew_s: float = 0.0
    """The peer's clock minus ours."""
    skew_error_s: float = 0.0
    """Half of the call's time: the skew is no better known than that."""
    status: str = ""
    """gRPC's status of a failed call, such as "UNIMPLEMENTED"; empty when it went well."""
    code: str = ""
    """Our error code of a failed call, empty when the peer sent none."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class SpeedSeen:
    """Throughput of padded probe calls."""

    up_mib_s: float
    down_mib_s: float
    round_trip_ms: float
    """Of a call without padding, the fastest of a few."""
    fault: str = ""
    """Why it could not be measured."""
