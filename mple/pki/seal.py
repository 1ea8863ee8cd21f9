"""Envelopes that only one party can open: HPKE (RFC 9180) to the EC P-256 key of its certificate.

Suite: DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, base mode. The context that a sender gives (`info`) must
be given again to open. Base mode does not prove who sealed: who may leave which envelope is the coordinator's check,
by certificate, and the context names the sender.
"""

from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mple.rpc import Party
from mple.rpc.tls import party_of_certificate
from mple.rpc.tls_files import UNSOUND


class SealError(ValueError):
    """An envelope can't be sealed or opened."""


def seal(certificate_der: bytes, secret: bytes, info: bytes) -> bytes:
    """Seal to the key of a certificate, which the caller has verified; SealError when it is no EC P-256 key."""
    key = x509.load_der_x509_certificate(certificate_der).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SealError("can only seal to certificates with an EC P-256 key")
    return _suite().encrypt(secret, key, info)


def open_sealed(private_key: Path, envelope: bytes, info: bytes) -> bytes:
    """Open an envelope with the key file of one's certificate; SealError when it is not for it, `info`, or altered."""
    key = load_pem_private_key(private_key.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SealError(f"{private_key} is no EC P-256 key")
    try:
        return _suite().decrypt(envelope, key, info)
    except (InvalidTag, ValueError):
        raise SealError("the envelope does not open: it is for another party or run, or was altered") from None


def verify_certificate(certificate_der: bytes, ca_pem: bytes, expected: Party) -> None:
    """Check that a certificate is of this party and of this authority; SealError when it is not."""
    try:
        certificate = x509.load_der_x509_certificate(certificate_der)
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(ca_pem))
        party = party_of_certificate(certificate)
    except UNSOUND as fault:
        why = str(fault) or "the authority did not sign it"
        raise SealError(f"the certificate is not one of this consortium's authority: {why}") from None
    if party != expected:
        raise SealError(f"the certificate is of {party.uri}, not of {expected.uri}")


def _suite() -> Suite:
    return Suite(KEM.P256, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
