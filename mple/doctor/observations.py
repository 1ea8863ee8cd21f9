"""What was seen of a peer, as plain values: the probing makes them, the diagnosis judges them.

A connection that failed is seen as the `OSError` that it failed with.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ShakeSeen:
    """A TLS handshake that verified nothing, so that the certificate can be looked at whatever is wrong with it."""

    version: str
    """Such as "TLSv1.3"."""
    certificate_der: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerSeen:
    """What a probe call brought."""

    label: str = ""
    protocol_version: int = 0
    program_version: str = ""
    skew_s: float = 0.0
    """The peer's clock minus ours."""
    skew_error_s: float = 0.0
    """Half of the call's time: the skew is no better known than that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CallFailed:
    """How a probe call failed."""

    status: str
    """gRPC's, such as "UNIMPLEMENTED"."""
    code: str = ""
    """Our error code, empty when the peer sent none."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class SpeedSeen:
    """Throughput of padded probe calls."""

    up_mib_s: float
    down_mib_s: float
    round_trip_ms: float
    """Of a call without padding, the fastest of a few."""
