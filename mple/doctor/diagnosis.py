"""From what was seen of a peer to what is the case and what to do. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from mple.doctor.findings import Finding, Severity, fault, ok, warn
from mple.doctor.observations import AnswerSeen, NameSeen, PortSeen, Reached, Shake, ShakeSeen, SpeedSeen
from mple.rpc import ErrorCode
from mple.rpc.tls import Probed

SKEW_WARN_S = 5.0
SKEW_FAULT_S = 300.0
"""A certificate is backdated by five minutes; a clock that is further behind takes a new one for not yet valid."""
SLOW_MIB_S = 1.0


def name(host: str, seen: NameSeen) -> Finding:
    """Whether the host's name leads anywhere."""
    if not seen.addresses:
        return fault(
            "name",
            f"the name {host!r} is not known here ({seen.fault})",
            "check the spelling in the configuration; else ask for an entry in the name service or /etc/hosts",
        )
    if seen.addresses == (host,):
        return ok("name", f"{host} is an address")
    return ok("name", f"{host} is {', '.join(seen.addresses)}")


def port(address: str, seen: Sequence[PortSeen], waited_s: float) -> Finding:
    """Whether something listens."""
    closed = [one for one in seen if one.reached is not Reached.OPEN]
    if not closed:
        return ok("port", f"{address} takes connections")
    if len(closed) < len(seen):
        return warn(
            "port",
            f"{address} takes connections, but not at {', '.join(one.address for one in closed)}",
            "have the node listen at every address of its name, or take the others out of the name service",
        )
    first = closed[0]
    if first.reached is Reached.REFUSED:
        return fault(
            "port",
            f"nothing listens at {address}: the machine refused the connection",
            "start the node there, and compare the port with its 'listen'",
        )
    if first.reached is Reached.SILENT:
        return fault(
            "port",
            f"no answer from {address} within {waited_s:g} s",
            "check the address, and that the firewalls between let this port through",
        )
    return fault("port", f"{address} can't be reached: {first.detail}", "check this machine's network and its routes")


def shake(address: str, seen: ShakeSeen, waited_s: float) -> Finding:
    """Whether what listens speaks TLS."""
    if seen.shake is Shake.DONE:
        return ok("tls", f"{address} speaks {seen.version}; it answers no plaintext client")
    if seen.shake is Shake.PLAIN:
        return fault(
            "tls",
            f"{address} does not speak TLS: it is a plaintext port or another service",
            "check the port; an mple node never serves without TLS, but a proxy before it may",
        )
    if seen.shake is Shake.SILENT:
        return fault(
            "tls",
            f"{address} takes connections but answers no TLS handshake within {waited_s:g} s",
            "see whether the node there is stopped or overloaded, or another service has the port",
        )
    if seen.shake is Shake.CLOSED:
        return fault(
            "tls",
            f"{address} closed the connection during the TLS handshake",
            "see whether the node there runs; a relay or proxy before it may have nobody behind it",
        )
    return fault(
        "tls",
        f"the TLS handshake with {address} failed: {seen.detail}",
        "see whether the port is the node's and not a proxy's that ends TLS itself",
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


def answer(address: str, label: str, seen: AnswerSeen) -> Finding:
    """Whether the node behind the connection answers, and as who its certificate says it is."""
    if not seen.status:
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
        fixes = {
            ErrorCode.FOREIGN_CONSORTIUM: "have both certificates issued for the same consortium",
            ErrorCode.UNIDENTIFIED: "have this node's certificate issued by mple pki request and approve",
        }
        fix = fixes.get(ErrorCode(seen.code), "see the log of the node there")
        if "revoked" in seen.detail:
            fix = "have a new certificate issued for this node (mple pki request), or ask the authority why"
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


def throughput(seen: SpeedSeen) -> Finding:
    """How much the link carries each way."""
    if seen.fault:
        return warn("throughput", f"throughput could not be measured: {seen.fault}", "try again later")
    cause = f"{seen.up_mib_s:.1f} MiB/s up, {seen.down_mib_s:.1f} MiB/s down, {seen.round_trip_ms:.1f} ms round trip"
    if min(seen.up_mib_s, seen.down_mib_s) < SLOW_MIB_S:
        return warn("throughput", cause, "a run will be slow: see what else uses the link, or have it widened")
    return ok("throughput", cause)
