"""What a test asks of a diagnosis: the faults by step, and that a real connection is refused for the same reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from mple.doctor import Examination, Severity, examine_one
from mple.doctor.findings import Finding
from mple.pki import Authority
from mple.rpc import Role, TlsFiles
from mple.v1 import node_pb2, node_pb2_grpc


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found of both sides."""

    own: Examination
    peer: Examination

    def own_fault(self) -> Finding:
        """The one fault of this node's files."""
        return _one_fault(self.own)

    def peer_fault(self) -> Finding:
        """The one fault of the peer."""
        return _one_fault(self.peer)

    def peer_faults(self) -> dict[str, Finding]:
        """All of them by step."""
        return {one.step: one for one in self.peer.findings if one.severity is Severity.FAULT}

    def steps_gone(self) -> list[str]:
        """Steps of the peer that were gone, in their order."""
        return [one.step for one in self.peer.findings if one.severity is not Severity.SKIPPED]


def diagnosed(address: str, files: TlsFiles, role: Role | None = None) -> Diagnosis:
    """Look at a peer by the files of a folder."""
    own, there = examine_one(address, role, files.key.parent, timeout_s=2.0)
    return Diagnosis(own, there)


def says(finding: Finding, step: str, cause: Iterable[str], fix: Iterable[str]) -> None:
    """Assert on a finding's step and on the key words of its two sentences."""
    assert finding.step == step, finding
    for word in cause:
        assert word in finding.cause, finding
    for word in fix:
        assert word in finding.fix, finding


def called(address: str, files: TlsFiles | None, *, with_certificate: bool = True) -> grpc.StatusCode:
    """The status of a probe call over a channel of gRPC's own, without a check of ours before it."""
    if files is None:
        opened = grpc.insecure_channel(address)
    else:
        key, chain = (files.key.read_bytes(), files.certificate.read_bytes()) if with_certificate else (None, None)
        opened = grpc.secure_channel(address, grpc.ssl_channel_credentials(files.ca.read_bytes(), key, chain))
    with opened as channel:
        try:
            node_pb2_grpc.NodeServiceStub(channel).Probe(node_pb2.ProbeRequest(), timeout=10)
        except grpc.RpcError as fault:
            status: grpc.StatusCode = fault.code()
            return status
    return grpc.StatusCode.OK


def revoke(authority: Authority, certificates: Sequence[Path], lists: Sequence[Path]) -> None:
    """Write the authority's list of these certificates to the files."""
    key = load_pem_private_key((authority.directory / "ca.key").read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    now = datetime.now(UTC)
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(x509.load_pem_x509_certificate(authority.certificate_pem).subject)
        .last_update(now)
        .next_update(now + timedelta(days=30))
        .add_extension(x509.CRLNumber(1), critical=False)
    )
    for path in certificates:
        serial = x509.load_pem_x509_certificate(path.read_bytes()).serial_number
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
        crl = crl.add_revoked_certificate(entry.build())
    for path in lists:
        path.write_bytes(crl.sign(key, SHA256()).public_bytes(Encoding.PEM))


def _one_fault(examination: Examination) -> Finding:
    faults = [one for one in examination.findings if one.severity is Severity.FAULT]
    assert len(faults) == 1, examination
    return faults[0]
