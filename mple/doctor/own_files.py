"""This node's own side: certificates, vault, state folder, port. Reads, never changes; a state folder is not made."""

from __future__ import annotations

import shutil
import socket
import ssl
import stat
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mple.doctor import certificates
from mple.doctor.findings import Finding, fault, faulty, ok, skipped, warn
from mple.doctor.observations import Shake
from mple.doctor.probing import shake_hands
from mple.pki import PASSPHRASE_VARIABLE, VaultError, read_passphrase
from mple.plan import SiteSettings
from mple.rpc import Party, Role, TlsError, TlsFiles
from mple.rpc.revoked import REVOKED_LIST, RevokedList, read_revoked
from mple.rpc.tls import split_address
from mple.rpc.tls_files import UNSOUND

_FREE_FAULT_BYTES = 100 * 1024**2
_FREE_WARN_BYTES = 1024**3
_GIB = 1024**3
_TIMEOUT_S = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnTls:
    """What a TLS folder holds, as far as it can be read."""

    files: TlsFiles
    authority: x509.Certificate | None
    party: Party | None
    revoked: RevokedList
    usable: bool
    """Whether certificate and key can be shown to a peer, however it may judge them."""
    findings: tuple[Finding, ...]


def look_at_tls(folder: Path, roles: Collection[Role], now: datetime) -> OwnTls:
    """Read a TLS folder and judge it."""
    files = TlsFiles.in_directory(folder)
    findings = _missing(files)
    authority = _certificate(files.ca)
    certificate = _certificate(files.certificate)
    if not findings:
        findings = _unreadable(files, authority, certificate)
    if findings or authority is None or certificate is None:
        rest = ("key", "chain", "dates", "identity", "revocation")
        findings.append(skipped(rest, "they need all three files"))
        return OwnTls(
            files=files,
            authority=authority,
            party=None,
            revoked=RevokedList(),
            usable=False,
            findings=tuple(findings),
        )
    held = certificates.Held(certificate, f"certificate {files.certificate}", "here")
    revoked, unsound = _revoked(files)
    who, party = certificates.identity(held, roles, None)
    key = certificates.key_match(held, load_pem_private_key(files.key.read_bytes(), password=None), str(files.key))
    found = [
        _key_mode(files.key),
        key,
        certificates.chain(held, authority, str(files.ca)),
        certificates.dates(held, now),
        certificates.usage(held, serving=False),
        certificates.usage(held, serving=True) if party is not None and party.role is not Role.SITE else None,
        who,
        unsound or certificates.revocation(held, revoked),
    ]
    return OwnTls(
        files=files,
        authority=authority,
        party=party,
        revoked=revoked,
        usable=not faulty([key]),
        findings=tuple(finding for finding in found if finding is not None),
    )


def vault(settings: SiteSettings) -> Finding:
    """Whether a site's secrets are open to its owner only, and its passphrase can be read."""
    folder = settings.vault
    if not folder.exists():
        return ok("vault", f"no vault at {folder} yet: it is made at first use")
    opened = [path for path in (folder, *folder.iterdir()) if stat.S_IMODE(path.stat().st_mode) & 0o077]
    if opened:
        mode = stat.S_IMODE(opened[0].stat().st_mode)
        return fault(
            "vault",
            f"{opened[0]} has mode {mode:04o} and is open to others",
            f"consider its keys known and make new ones (mple keys rotate), after chmod -R go= {folder}",
        )
    try:
        passphrase = read_passphrase(PASSPHRASE_VARIABLE, settings.vault_passphrase_file)
    except VaultError as unreadable:
        return fault("vault", str(unreadable), "name a file that its owner alone can read")
    if (folder / "vault.json").exists() and passphrase is None:
        return fault(
            "vault",
            f"the vault {folder} is encrypted and no passphrase is given",
            f"set {PASSPHRASE_VARIABLE}, or vault_passphrase_file in the configuration",
        )
    return ok("vault", f"{folder} is open to its owner only" + (", encrypted" if passphrase is not None else ""))


def state_folder(state: Path) -> Finding:
    """Whether the node can write where it must, and how much room there is."""
    there = next(folder for folder in (state, *state.absolute().parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"x")
    except OSError as refusal:
        return fault(
            "state",
            f"state folder {state} can't be written: {refusal.strerror}",
            f"name another folder, or give {there} to the user that runs the node",
        )
    free = shutil.disk_usage(there).free
    cause = f"{state} can be written, {free / _GIB:.1f} GiB free"
    fix = "make room, or name a folder on a larger disk: ledger, layers and cache go there"
    if free < _FREE_FAULT_BYTES:
        return fault("state", f"{state} has {free // 1024**2} MiB free", fix)
    return warn("state", cause, fix) if free < _FREE_WARN_BYTES else ok("state", cause)


def listening(listen: str, own: OwnTls) -> Finding:
    """Whether the node's port is free, or taken by the node itself."""
    try:
        host, port = split_address(listen)
    except ValueError as malformed:
        return fault("listen", str(malformed), "mend 'listen' in the configuration")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            # As gRPC does: a port whose last connections are still closing counts as free.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(1)
    except OSError as refusal:
        if _serves_itself(host, port, own):
            return ok("listen", f"this node serves at {listen} now")
        if isinstance(refusal, PermissionError):
            return fault("listen", f"port {port} is not open to this user", "take a port above 1023")
        taken = _answers(host, port)
        return fault(
            "listen",
            f"{listen} is taken by another program" if taken else f"can't listen on {listen}: {refusal.strerror}",
            "stop the other program or take another port" if taken else "give an address that is this machine's",
        )
    return ok("listen", f"{listen} is free: the node can listen there, and does not now")


def _missing(files: TlsFiles) -> list[Finding]:
    ways = {
        files.ca: ("authority", "ask the authority for ca.crt and install it: mple pki install"),
        files.certificate: ("certificate", "request one, have it approved and install it: mple pki request"),
        files.key: ("key", "make a new key and a request: mple pki request"),
    }
    return [
        fault("files", f"no {what} file at {path}", fix) for path, (what, fix) in ways.items() if not path.is_file()
    ]


def _unreadable(
    files: TlsFiles, authority: x509.Certificate | None, certificate: x509.Certificate | None
) -> list[Finding]:
    broken = [path for path, read in ((files.ca, authority), (files.certificate, certificate)) if read is None]
    try:
        load_pem_private_key(files.key.read_bytes(), password=None)
    except (OSError, *UNSOUND):
        broken.append(files.key)
    return [
        fault("files", f"{path} can't be read or is damaged", "install it anew: mple pki install") for path in broken
    ]


def _certificate(path: Path) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, *UNSOUND):
        return None


def _key_mode(key: Path) -> Finding | None:
    mode = stat.S_IMODE(key.stat().st_mode)
    if not mode & 0o077:
        return None
    return fault("key", f"key {key} has mode {mode:04o} and is open to others", "renew it, or chmod go= it")


def _revoked(files: TlsFiles) -> tuple[RevokedList, Finding | None]:
    path = files.ca.with_name(REVOKED_LIST)
    try:
        return read_revoked(path.read_bytes(), files.ca.read_bytes()), None
    except FileNotFoundError:
        return RevokedList(), None
    except (OSError, TlsError) as unsound:
        return RevokedList(), fault("revocation", f"{path}: {unsound}", "install it anew: mple pki install-crl")


def _serves_itself(host: str, port: int, own: OwnTls) -> bool:
    if not own.usable:
        return False
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    seen = shake_hands(local, local, port, own.files, _TIMEOUT_S)
    mine = ssl.PEM_cert_to_DER_cert(own.files.certificate.read_text(encoding="ascii"))
    return seen.shake is Shake.DONE and seen.certificate_der == mine


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), _TIMEOUT_S).close()
    except OSError:
        return False
    return True


def utc_now() -> datetime:
    """The time that certificates are held against."""
    return datetime.now(UTC)
