"""Judgements on what was seen, without a network: what no test machine can be brought to show."""

from __future__ import annotations

import errno
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from mple.cli.doctor import as_json, lines, verdict
from mple.doctor import certificates, diagnosis
from mple.doctor.diagnosis import AnswerSeen, CallFailed, SpeedSeen
from mple.doctor.findings import Examination, Finding, Severity, fault, ok, skipped, warn
from mple.pki import Authority
from mple.rpc.revoked import RevokedList
from mple.rpc.tls import Probed
from tests.support.certificates import forge
from tests.support.looking import says

THERE = "coordinator.example:7400"
NOW = datetime.now(UTC)


def held(authority: Authority, folder: Path, hosts: tuple[str, ...] = ("coordinator.example",)) -> certificates.Held:
    files = forge(authority, folder, hosts=hosts, to_days=90)
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    return certificates.Held(certificate, f"the certificate of {THERE}", "there")


def test_name_with_addresses() -> None:
    assert diagnosis.name("coordinator", ("10.0.0.1", "10.0.0.2")) == ok("name", "coordinator is 10.0.0.1, 10.0.0.2")


def test_port_at_some_addresses_only() -> None:
    seen = {"10.0.0.1": None, "::1": ConnectionRefusedError()}
    found = diagnosis.port(THERE, seen, 5)
    assert found.severity is Severity.WARN
    says(found, "port", ["takes connections", "not at ::1"], ["every address"])


@pytest.mark.parametrize(
    ("seen", "cause", "fix"),
    [
        (TimeoutError(), "no answer from coordinator.example:7400 within 5 s", "firewalls"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "No route to host", "routes"),
    ],
)
def test_port_that_is_not_reached(seen: OSError, cause: str, fix: str) -> None:
    found = diagnosis.port(THERE, {"10.0.0.1": seen}, 5)
    assert found.severity is Severity.FAULT
    says(found, "port", [cause], [fix])


@pytest.mark.parametrize(
    ("seen", "cause", "fix"),
    [
        (ssl.SSLEOFError(), "closed the connection during", "relay or proxy"),
        (ConnectionResetError(), "closed the connection during", "relay or proxy"),
        (ssl.SSLError(1, "no_shared_cipher"), "no_shared_cipher", "proxy"),
    ],
)
def test_handshake_that_fails(seen: OSError, cause: str, fix: str) -> None:
    found = diagnosis.shake(THERE, seen, 5)
    says(found, "tls", [cause], [fix])


def test_refusal_that_this_side_can_not_explain() -> None:
    found = diagnosis.admission(THERE, Probed(None, "it hangs up", False), [ok("dates", "fine")])
    says(found, "admission", ["it hangs up"], ["compare ca.crt, ca.crl and the clock"])


def test_refusal_that_an_own_fault_explains() -> None:
    own = [warn("dates", "ends soon", "renew"), fault("usage", "not for dialling", "issue it anew")]
    found = diagnosis.admission(THERE, Probed(None, "it hangs up", False), own)
    says(found, "admission", ["refuses this node: not for dialling"], ["issue it anew"])


def test_party_that_went_away_between_two_steps() -> None:
    found = diagnosis.admission(THERE, Probed(None, "refused the connection", True), [])
    says(found, "admission", ["refused the connection"], ["still runs"])


@pytest.mark.parametrize(
    ("seen", "severity", "cause", "fix"),
    [
        (AnswerSeen(label="compute/a"), "fault", "is of coordinator/coordinator, but compute/a answers", "TLS folder"),
        (CallFailed(status="UNIMPLEMENTED"), "warn", "does not know this call", "older program"),
        (CallFailed(status="RESOURCE_EXHAUSTED"), "warn", "busy", "try again"),
        (CallFailed(status="UNAVAILABLE", detail="Socket closed"), "fault", "UNAVAILABLE, Socket closed", "HTTP/2"),
        (
            CallFailed(status="UNAUTHENTICATED", code="UNIDENTIFIED", detail="revoked on 2026-01-02"),
            "fault",
            "revoked on 2026-01-02",
            "new certificate",
        ),
        (CallFailed(status="INTERNAL", code="INTERNAL", detail="a fault"), "fault", "a fault", "log of the node there"),
    ],
)
def test_answers(seen: CallFailed, severity: str, cause: str, fix: str) -> None:
    found = diagnosis.answer(THERE, "coordinator/coordinator", seen)
    assert found.severity == severity
    says(found, "answer", [cause], [fix])


@pytest.mark.parametrize(
    ("skew_s", "error_s", "severity", "words"),
    [
        (0.2, 0.01, "ok", "within 0.2 s"),
        (20, 30, "ok", "within 3e+01 s"),
        (20, 0.1, "warn", "20 s ahead of"),
        (-61, 0.1, "warn", "61 s behind"),
        (-301, 0.1, "fault", "301 s behind"),
    ],
)
def test_clocks(skew_s: float, error_s: float, severity: str, words: str) -> None:
    found = diagnosis.clock(THERE, AnswerSeen(skew_s=skew_s, skew_error_s=error_s))
    assert found.severity == severity
    assert words in found.cause
    assert ("NTP" in found.fix) == (severity != "ok")


@pytest.mark.parametrize(("theirs", "older"), [(2, "this machine"), (0, THERE)])
def test_protocols_that_differ(theirs: int, older: str) -> None:
    found = diagnosis.protocol(THERE, AnswerSeen(protocol_version=theirs), ours=1)
    says(found, "protocol", [f"speaks protocol {theirs}, this program 1"], [f"upgrade the program on {older}"])


def test_throughput() -> None:
    assert diagnosis.throughput(SpeedSeen(20, 30, 1.5)) == ok(
        "throughput", "20.0 MiB/s up, 30.0 MiB/s down, 1.5 ms round trip"
    )
    assert diagnosis.throughput(SpeedSeen(20, 0.5, 1.5)).severity is Severity.WARN
    assert diagnosis.throughput(CallFailed(status="DEADLINE_EXCEEDED")).severity is Severity.WARN


# Certificates.


@pytest.mark.parametrize(
    ("hosts", "dialled", "fits"),
    [
        (("coordinator.example",), "Coordinator.Example", True),
        (("coordinator.example",), "www.coordinator.example", False),
        (("*.example",), "coordinator.example", True),
        (("*.example",), "a.coordinator.example", False),
        (("10.0.0.1",), "10.0.0.1", True),
        (("10.0.0.1",), "10.0.0.2", False),
        (("::1",), "0:0:0:0:0:0:0:1", True),
    ],
)
def test_names_of_a_certificate(
    authority: Authority, tmp_path: Path, hosts: tuple[str, ...], dialled: str, fits: bool
) -> None:
    found = certificates.host(held(authority, tmp_path, hosts), dialled)
    assert (found.severity is Severity.OK) == fits


@pytest.mark.parametrize(
    ("left", "severity", "words"),
    [
        (timedelta(days=40, hours=1), "ok", "another 40 days"),
        (timedelta(days=13, hours=1), "warn", "expires in 13 days"),
        (timedelta(hours=5, minutes=1), "warn", "expires in 5 hours"),
        (timedelta(seconds=-1), "fault", "has expired"),
    ],
)
def test_days_left(authority: Authority, tmp_path: Path, left: timedelta, severity: str, words: str) -> None:
    one = held(authority, tmp_path)
    found = certificates.dates(one, one.certificate.not_valid_after_utc - left)
    assert found.severity == severity
    assert words in found.cause


def test_list_of_revoked_that_is_overdue(authority: Authority, tmp_path: Path) -> None:
    overdue = RevokedList(number=3, next_update=NOW - timedelta(days=1))
    found = certificates.revocation(held(authority, tmp_path), overdue)
    assert found.severity is Severity.WARN
    says(found, "revocation", ["list 3 is overdue since"], ["mple pki install-crl"])


# As text.


def test_severity_and_verdict() -> None:
    well = Examination("a", True, (ok("x", "fine"),))
    ill = Examination("b", False, (warn("y", "soon", "do"), fault("z", "broken", "mend"), skipped(["w"], "pointless")))
    assert (well.severity, ill.severity) == (Severity.OK, Severity.FAULT)
    assert verdict([well]) == "all is well"
    assert verdict([well, ill]) == "1 fault"
    assert verdict([Examination("c", False, ill.findings[:1] * 2)]) == "2 warnings"
    assert lines(ill) == [
        "b",
        "  warn  y          soon",
        "                   -> do",
        "  fault z          broken",
        "                   -> mend",
        "                   not looked at: w; pointless",
    ]
    assert '"cause": "broken"' in as_json([ill], 4)
    assert Finding("x", Severity.OK, "fine") == ok("x", "fine")
