"""TLS files of a node, and a probe that tells why a connection can't work.

gRPC answers almost every TLS fault with "Socket closed"; the standard library tells them apart. The probe is used
before the first call and whenever a party stays away.
"""

import contextlib
import os
import socket
import ssl
import stat
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from mple.disk.scarcity import scarcity_of
from mple.rpc.identity import Party, Role
from mple.rpc.revoked import RevokedList, revoked_beside
from mple.rpc.tls_files import UNSOUND, AwayError, TlsError, TlsFiles

_READ_AHEAD_S = 2.0
_SECOND_LOOK_S = 0.3
"""After this a party that hung up because it was just going down refuses connections instead."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What a TLS handshake showed: the party, or the fault; `away` tells silence from refusal."""

    party: Party | None
    fault: str | None
    away: bool
    revoked: bool = False
    """The fault is that the authority has revoked the party's certificate."""
    foreign: bool = False
    """The fault is that whoever answers has a certificate of the consortium, but not one of a server."""


def own_party(files: TlsFiles, role: Role) -> Party:
    """Check a node's own files and return who they make it.

    Raises TlsError: as `checked_party`, or they are of another role.
    """
    party = checked_party(files)
    if party.role is not role:
        raise TlsError(f"certificate {files.certificate} is of {party.label}; this node needs one of role {role}")
    return party


def checked_party(files: TlsFiles, revoked: RevokedList | None = None) -> Party:
    """Check a node's own files and return who they make it; completes an installation that was cut short.

    `revoked` is held against the certificate; the list beside the authority's by default.

    Raises TlsError: a file is missing or unreadable, the key is open to others or not the certificate's, the
    certificate is out of date, revoked, not signed by the authority, or without identity.
    """
    _complete_installation(files)
    for what, path in (("authority", files.ca), ("certificate", files.certificate), ("key", files.key)):
        if not path.is_file():
            raise TlsError(f"no {what} file at {path}; make one with 'mple pki request', approve and install it")
    mode = stat.S_IMODE(files.key.stat().st_mode)
    if mode & 0o077:
        raise TlsError(f"key {files.key} has mode {mode:04o} and is open to others; renew it, or chmod go= it")
    try:
        authority = x509.load_pem_x509_certificate(files.ca.read_bytes())
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        ours = is_key_of(files.key, certificate)
    except (OSError, *UNSOUND) as fault:
        if scarcity_of(fault) is not None:
            raise
        raise TlsError(f"the certificates beside {files.certificate} can't be read: {fault}") from None
    if not ours:
        raise TlsError(f"key {files.key} is not the key of certificate {files.certificate}; install the right pair")
    try:
        certificate.verify_directly_issued_by(authority)
    except UNSOUND:
        raise TlsError(f"certificate {files.certificate} was not signed by the authority in {files.ca}") from None
    now = datetime.now(UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise TlsError(
            f"certificate {files.certificate} is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} to "
            f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; renew it with 'mple pki renew', or set "
            "this machine's clock"
        )
    entry = (revoked_beside(files.ca).now() if revoked is None else revoked).entries.get(certificate.serial_number)
    if entry is not None:
        raise TlsError(f"certificate {files.certificate} was {entry}; request another with 'mple pki renew --new-key'")
    return party_of_certificate(certificate)


def is_key_of(key: Path, certificate: x509.Certificate) -> bool:
    """Whether a private key file holds the key of a certificate.

    Raises OSError: the file can't be read; ValueError, TypeError: it holds no key.
    """
    spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    public = load_pem_private_key(key.read_bytes(), password=None).public_key()
    return public.public_bytes(*spki) == certificate.public_key().public_bytes(*spki)


def party_of_certificate(certificate: x509.Certificate) -> Party:
    """The identity that a certificate bears. Raises TlsError: it bears no mple URI or several."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise TlsError("the certificate has no subject alternative name; issue it with 'mple pki approve'") from None
    except UNSOUND as fault:
        raise TlsError(f"the certificate's extensions can't be read: {fault}") from None
    uris = [uri for uri in names.get_values_for_type(x509.UniformResourceIdentifier) if uri.startswith("mple://")]
    if len(uris) != 1:
        raise TlsError(f"the certificate bears {len(uris)} mple identities; needs one")
    try:
        return Party.parse(uris[0])
    except ValueError as fault:
        raise TlsError(str(fault)) from None


def bears_server_name(certificate: x509.Certificate, party: Party) -> bool:
    """Whether a certificate has the name by which TLS knows that this party serves."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return party.server_name in names.get_values_for_type(x509.DNSName)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port". Raises ValueError: it is something else."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"address {address!r}; write host:port, for example 127.0.0.1:7400")
    return host.strip("[]"), int(port)


def verify_remote(address: str, files: TlsFiles, role: Role, timeout_s: float = 5.0, *, name: str = "") -> Party:
    """Who serves at an address, by its certificate; `open_channel` then demands the same at each connection.

    Raises AwayError: nobody answers now; TlsError: a TLS connection can't work, or who answers is of another role or
    consortium than `role` and this node's, or of another name than `name`, if one is given.
    """
    probed = probe(address, files, timeout_s)
    if probed.party is None:
        if probed.away:
            raise AwayError(probed.fault)
        raise TlsError(probed.fault or "unknown fault")
    if probed.party.role is not role:
        raise TlsError(f"{address} is {probed.party.label}, not a {role}; check the address in the configuration")
    if name not in ("", probed.party.name):
        raise TlsError(f"{address} is {probed.party.label}, the run's is {role}/{name}; check the address")
    own = party_of_certificate(x509.load_pem_x509_certificate(files.certificate.read_bytes()))
    if probed.party.consortium != own.consortium:
        raise TlsError(f"{address} is {probed.party.uri}, this node of consortium {own.consortium}; check the address")
    return probed.party


def probe_for(remote: Party, address: str, files: TlsFiles) -> Probed:
    """As `probe`, where a party was found before. If another serves at its address now, the party counts as away: it
    may come back, and whoever took its place must not end a node by that."""
    probed = probe(address, files)
    if probed.party is None or probed.party == remote:
        return replace(probed, away=True) if probed.foreign else probed
    return Probed(None, f"{address} is {probed.party.label} now, not {remote.label}: nothing is sent to it", True)


def probe(address: str, files: TlsFiles, timeout_s: float = 5.0) -> Probed:
    """Try a TLS handshake as gRPC would and say in one sentence what is wrong with it."""
    host, port = split_address(address)
    _complete_installation(files)
    try:
        # With a file given, the system's authorities are not loaded.
        context = ssl.create_default_context(cafile=str(files.ca))
        context.load_cert_chain(str(files.certificate), str(files.key))
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # Python's default since 3.13; gRPC is not as strict
    except OSError as fault:  # ssl.SSLError is one
        if scarcity_of(fault) is not None:
            return _away(f"this node can't look at {address}: {fault}")
        return Probed(None, f"this node's own files beside {files.certificate} can't be used: {fault}", False)
    context.set_alpn_protocols(["h2"])
    for wait_s in (0.0, _SECOND_LOOK_S):
        time.sleep(wait_s)
        seen = _look(address, host, port, context, timeout_s, files.ca)
        if seen is not None:
            return seen
    return Probed(None, _hung_up(address, files), False)


def _complete_installation(files: TlsFiles) -> None:
    """Give the last names to what `install` left beside when it was cut short, if only so the files fit together. It
    changes the key's name first, then the certificate's, then the authority's."""
    beside = [path.with_name(f"{path.name}.new") for path in (files.certificate, files.ca)]
    if not any(path.exists() for path in beside) or _fit(files.certificate, files.ca, files.key):
        return
    placed = (files.certificate, files.ca)
    certificate, ca = (new if new.exists() else path for new, path in zip(beside, placed, strict=True))
    if _fit(certificate, ca, files.key):
        for new, path in zip(beside, placed, strict=True):
            with contextlib.suppress(FileNotFoundError):  # `install` itself goes on
                os.replace(new, path)


def _fit(certificate: Path, ca: Path, key: Path) -> bool:
    try:
        shown = x509.load_pem_x509_certificate(certificate.read_bytes())
        shown.verify_directly_issued_by(x509.load_pem_x509_certificate(ca.read_bytes()))
        return is_key_of(key, shown)
    except (OSError, *UNSOUND):
        return False


def _look(address: str, host: str, port: int, context: ssl.SSLContext, timeout_s: float, ca: Path) -> Probed | None:
    """One connection; None when the handshake was well and the other side then hung up at once."""
    try:
        raw = socket.create_connection((host, port), timeout_s)
    except ConnectionRefusedError:
        return _away(f"{address} refused the connection: nothing listens there; is the party started?")
    except TimeoutError:
        return _away(f"no answer from {address} within {timeout_s:g} s: check the address and the firewalls between")
    except socket.gaierror as fault:
        # A name service that is away says either; which, it depends on what else answers meanwhile.
        why = "the name service does not answer" if fault.errno == socket.EAI_AGAIN else "the name is not known here"
        return _away(f"{address} can't be looked up: {why} ({fault.strerror}); check the address and the name service")
    except UnicodeError as fault:
        return Probed(None, f"{host!r} can't be a host's name: {fault}", False)
    except OSError as fault:
        return _away(f"{address} can't be reached: {fault}")
    with raw:
        try:
            with context.wrap_socket(raw, server_hostname=host) as link:
                der = link.getpeercert(binary_form=True)
                link.settimeout(min(timeout_s, _READ_AHEAD_S))
                if _hangs_up(link):
                    return None
        except ssl.SSLCertVerificationError as fault:
            foreign = "purpose" in fault.verify_message
            return Probed(None, _verification(address, host, fault), False, foreign=foreign)
        except ssl.SSLEOFError:
            return _away(f"{address} closed the connection during the handshake; is the party behind it up?")
        except ssl.SSLError as fault:
            return Probed(None, _handshake(address, fault), False)
        except TimeoutError:
            return _away(f"{address} takes connections but answers no TLS handshake within {timeout_s:g} s")
        except OSError as fault:
            return _away(f"the connection to {address} broke during the handshake: {fault}")
    try:
        certificate = x509.load_der_x509_certificate(der or b"")
        revoked = revoked_beside(ca).now().entries.get(certificate.serial_number)
        if revoked is not None:
            text = f"the certificate of {address} was {revoked}: it needs another one"
            return Probed(None, text, False, revoked=True)
        party = party_of_certificate(certificate)
        if not bears_server_name(certificate, party):
            text = f"the certificate of {address} lacks the name {party.server_name}, by which TLS knows who serves"
            return Probed(None, f"{text}: have it issued again there by 'mple pki renew' and approve", False)
        return Probed(party, None, False)
    except UNSOUND as fault:
        return Probed(None, f"{address}: {fault}", False)


def _hangs_up(link: ssl.SSLSocket) -> bool:
    """In TLS 1.3 a server looks at our certificate after our side of the handshake is done. One that accepts it speaks
    first (HTTP/2 settings). One that does not sends an alert, which `recv` raises, or simply hangs up, as gRPC does."""
    try:
        return link.recv(1) == b""
    except TimeoutError:
        return False
    except ssl.SSLError:
        raise
    except OSError:
        return True


def _hung_up(address: str, files: TlsFiles) -> str:
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    refuses = f"{address} refuses this node's certificate {files.certificate} (it hangs up after the handshake)"
    if certificate.not_valid_after_utc < datetime.now(UTC):
        return f"{refuses}: it expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; renew it"
    return f"{refuses}: have it issued by the consortium's authority, and compare ca.crt on both machines"


def _away(fault: str) -> Probed:
    return Probed(None, fault, True)


def _verification(address: str, host: str, fault: ssl.SSLCertVerificationError) -> str:
    text = fault.verify_message or str(fault)
    if "Hostname mismatch" in text or "IP address mismatch" in text:
        return f"the certificate of {address} is not made out for {host!r}: request it again with --host {host}"
    if "purpose" in text:
        return f"{address} shows a certificate that is not for serving, such as a site's: check the address"
    if "expired" in text:
        return f"the certificate of {address} has expired: renew it there, or set the clock of one of the machines"
    if "not yet valid" in text:
        return f"the certificate of {address} is not valid yet: set the clock of one of the machines"
    return f"{address} shows a certificate of another authority ({text}): both parties need certificates of the same"


def _handshake(address: str, fault: ssl.SSLError) -> str:
    reason = (fault.reason or str(fault)).upper()
    if "WRONG_VERSION_NUMBER" in reason or "RECORD_LAYER" in reason or "HTTP_REQUEST" in reason:
        return f"{address} does not speak TLS: it is another service or a plain port; check the port"
    if "ALERT" in reason and any(word in reason for word in ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")):
        return f"{address} refuses this node's certificate ({reason.lower()}): have the consortium's authority issue it"
    return f"the TLS handshake with {address} failed ({reason.lower()})"
