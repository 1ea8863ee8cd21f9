"""From what was seen of a peer to what is the case and what to do. Pure.

A connection that failed was seen as the `OSError` that it failed with.
"""

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mple.doctor.findings import Finding, Severity, fault, ok, warn
from mple.rpc import ErrorCode
from mple.rpc.tls import Probed

SKEW_WARN_S = 5.0
SKEW_FAULT_S = 300.0
"""A certificate is backdated by five minutes; a clock that is further behind takes a new one for not yet valid."""
SLOW_MIB_S = 1.0
_PLAIN = ("WRONG_VERSION_NUMBER", "RECORD_LAYER", "HTTP_REQUEST", "PACKET_LENGTH")


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


def name(host: str, seen: Sequence[str] | OSError | UnicodeError) -> Finding:
    """Whether the host's name leads anywhere."""
    if isinstance(seen, OSError | UnicodeError):
        return fault(
            "name",
            f"the name {host!r} is not known here ({_said(seen)})",
            "check the spelling in the configuration; else ask for an entry in the name service or /etc/hosts",
        )
    return ok("name", f"{host} is {'an address' if tuple(seen) == (host,) else ', '.join(seen)}")


def port(address: str, seen: Mapping[str, OSError | None], waited_s: float) -> Finding:
    """Whether something listens; `seen` is how dialling each of the name's addresses failed, if it did."""
    closed = {one: failure for one, failure in seen.items() if failure is not None}
    if not closed:
        return ok("port", f"{address} takes connections")
    if len(closed) < len(seen):
        return warn(
            "port",
            f"{address} takes connections, but not at {', '.join(closed)}",
            "have the node listen at every address of its name, or take the others out of the name service",
        )
    first = next(iter(closed.values()))
    if isinstance(first, ConnectionRefusedError):
        return fault(
            "port",
            f"nothing listens at {address}: the machine refused the connection",
            "start the node there, and compare the port with its 'listen'",
        )
    if isinstance(first, TimeoutError):
        return fault(
            "port",
            f"no answer from {address} within {waited_s:g} s",
            "check the address, and that the firewalls between let this port through",
        )
    return fault("port", f"{address} can't be reached: {_said(first)}", "check this machine's network and its routes")


def shake(address: str, seen: ShakeSeen | OSError, waited_s: float) -> Finding:
    """Whether what listens speaks TLS."""
    if isinstance(seen, ShakeSeen):
        return ok("tls", f"{address} speaks {seen.version}; it answers no plaintext client")
    if isinstance(seen, ssl.SSLError) and not isinstance(seen, ssl.SSLEOFError):
        reason = (getattr(seen, "reason", None) or str(seen)).upper()
        if any(sign in reason for sign in _PLAIN):
            return fault(
                "tls",
                f"{address} does not speak TLS: it is a plaintext port or another service",
                "check the port; an mple node never serves without TLS, but a proxy before it may",
            )
        return fault(
            "tls",
            f"the TLS handshake with {address} failed: {reason.lower()}",
            "see whether the port is the node's and not a proxy's that ends TLS itself",
        )
    if isinstance(seen, TimeoutError):
        return fault(
            "tls",
            f"{address} takes connections but answers no TLS handshake within {waited_s:g} s",
            "see whether the node there is stopped or overloaded, or another service has the port",
        )
    return fault(
        "tls",
        f"{address} closed the connection during the TLS handshake",
        "see whether the node there runs; a relay or proxy before it may have nobody behind it",
    )


def admission(address: str, probed: Probed, own: Sequence[Finding]) -> Finding:
    """Whether the peer lets this node's certificate in; `own` are the findings on that certificate."""
    if probed.party is not None:
        return ok("admission", f"{address} accepts this node's certificate")
    if probed.away:
        return fault("admission", probed.fault or f"{address} went away", "see whether the node there still runs")
    for finding in own:
        if finding.severity is Severity.FAULT:
            return fault("admission", f"{address} refuses this node: {finding.cause}", finding.fix)
    return fault(
        "admission",
        probed.fault or f"{address} refuses this node's certificate",
        "nothing is wrong with it by what lies here: compare ca.crt, ca.crl and the clock with those there",
    )


def answer(address: str, label: str, seen: AnswerSeen | CallFailed) -> Finding:
    """Whether the node behind the connection answers, and as who its certificate says it is."""
    if isinstance(seen, AnswerSeen):
        if seen.label == label:
            return ok("answer", f"{seen.label} answers, program {seen.program_version}")
        return fault(
            "answer",
            f"the certificate of {address} is of {label}, but {seen.label} answers",
            "see which TLS folder the node there uses, and what stands between",
        )
    if seen.status == "UNIMPLEMENTED":
        return warn("answer", f"{address} does not know this call", "it runs an older program: upgrade it")
    if seen.status == "RESOURCE_EXHAUSTED":
        return warn("answer", f"{address} is busy: it has no thread free for a call", "try again later")
    if seen.code:
        fix = "see the log of the node there"
        if "revoked" in seen.detail:
            fix = "have a new certificate issued for this node (mple pki request), or ask the authority why"
        elif seen.code == ErrorCode.FOREIGN_CONSORTIUM:
            fix = "have both certificates issued for the same consortium"
        elif seen.code == ErrorCode.UNIDENTIFIED:
            fix = "have this node's certificate issued by mple pki request and approve"
        return fault("answer", f"{address} refuses this node: {seen.detail}", fix)
    return fault(
        "answer",
        f"the call to {address} failed: {seen.status}, {seen.detail}",
        "see whether a proxy stands between that passes TLS but not HTTP/2, and the log of the node there",
    )


def clock(address: str, seen: AnswerSeen) -> Finding:
    """Whether the two clocks agree."""
    skew_s = abs(seen.skew_s)
    if skew_s <= max(SKEW_WARN_S, seen.skew_error_s):
        return ok("clock", f"the clocks agree within {max(skew_s, seen.skew_error_s):.1g} s")
    way = "ahead of" if seen.skew_s > 0 else "behind"
    cause = f"the clock of {address} is {skew_s:.0f} s {way} this machine's"
    fix = "set the clock of whichever machine is wrong, best by NTP on both"
    if skew_s > SKEW_FAULT_S:
        return fault("clock", f"{cause}: new certificates may not be valid yet there, or expired early", fix)
    return warn("clock", cause, fix)


def protocol(address: str, seen: AnswerSeen, ours: int) -> Finding:
    """Whether the two programs speak the same protocol."""
    if seen.protocol_version == ours:
        return ok("protocol", f"both speak protocol {ours}")
    older = "this machine" if ours < seen.protocol_version else address
    return fault(
        "protocol",
        f"{address} speaks protocol {seen.protocol_version}, this program {ours}",
        f"upgrade the program on {older}: all parties of a run need the same",
    )


def throughput(seen: SpeedSeen | CallFailed) -> Finding:
    """How much the link carries each way."""
    if isinstance(seen, CallFailed):
        return warn("throughput", f"throughput could not be measured: {seen.status}, {seen.detail}", "try again later")
    cause = f"{seen.up_mib_s:.1f} MiB/s up, {seen.down_mib_s:.1f} MiB/s down, {seen.round_trip_ms:.1f} ms round trip"
    if min(seen.up_mib_s, seen.down_mib_s) < SLOW_MIB_S:
        return warn("throughput", cause, "a run will be slow: see what else uses the link, or have it widened")
    return ok("throughput", cause)


def _said(failure: OSError | UnicodeError) -> str:
    return getattr(failure, "strerror", None) or str(failure)
