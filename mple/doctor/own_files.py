"""This node's own side: certificates, vault, state folder, port. Reads, never changes; a state folder is not made."""

import shutil
import socket
import ssl
import stat
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mple.data.images import task_of
from mple.data.source import choose_part
from mple.disk.private import shared_by
from mple.doctor import certificates
from mple.doctor.diagnosis import ShakeSeen
from mple.doctor.findings import Finding, fault, faulty, ok, skipped, warn
from mple.doctor.probing import dial, shake_hands
from mple.pki import PASSPHRASE_VARIABLE, VaultError, read_passphrase
from mple.plan import SiteSettings
from mple.plan.fit import check_any_run
from mple.rpc import Party, Role, TlsError, TlsFiles
from mple.rpc.revoked import REVOKED_LIST, RevokedList, read_revoked
from mple.rpc.tls import split_address
from mple.rpc.tls_files import UNSOUND

_FREE_FAULT_BYTES = 100 * 1024**2
_FREE_WARN_BYTES = 1024**3
_GIB = 1024**3
_TIMEOUT_S = 2.0
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnTls:
    """What a TLS folder holds, as far as it can be read."""

    files: TlsFiles
    findings: tuple[Finding, ...]
    authority: x509.Certificate | None
    party: Party | None = None
    revoked: RevokedList = field(default_factory=RevokedList)
    usable: bool = False
    """Whether certificate and key can be shown to a peer, however it may judge them."""


def look_at_tls(folder: Path, roles: Collection[Role]) -> OwnTls:
    """Read a TLS folder and judge it."""
    files = TlsFiles.in_directory(folder)
    faults: list[Finding] = []

    def read(what: str, path: Path, load: Callable[[bytes], T], fix: str) -> T | None:
        try:
            return load(path.read_bytes())
        except FileNotFoundError:
            faults.append(fault("files", f"no {what} file at {path}", fix))
        except (OSError, *UNSOUND):
            faults.append(fault("files", f"{path} can't be read or is damaged", "install it anew: mple pki install"))
        return None

    def a_certificate(content: bytes) -> x509.Certificate:
        return certificates.parsed(x509.load_pem_x509_certificate(content))

    a_key = partial(load_pem_private_key, password=None)
    fix = "ask the authority for ca.crt and install it: mple pki install"
    authority = read("authority", files.ca, a_certificate, fix)
    fix = "request one, have it approved and install it: mple pki request"
    certificate = read("certificate", files.certificate, a_certificate, fix)
    read("key", files.key, a_key, "make a new key and a request: mple pki request")
    if faults or authority is None or certificate is None:
        rest = skipped(("key", "chain", "dates", "identity", "revocation"), "they need all three files")
        return OwnTls(files=files, authority=authority, findings=(*faults, rest))
    held = certificates.Held(certificate, f"certificate {files.certificate}", "here")
    key = certificates.key_match(held, files.key)
    who, party = certificates.identity(held, roles, None)
    revoked, revocation = _revocation(files, held)
    found = (
        _key_mode(files.key),
        key,
        certificates.chain(held, authority, files.ca),
        certificates.dates(held, datetime.now(UTC)),
        certificates.usage(held, serving=False),
        certificates.usage(held, serving=True) if party is not None and party.role.serves else None,
        who,
        None if party is None else certificates.serving_names(held, party),
        revocation,
    )
    return OwnTls(
        files=files,
        findings=tuple(filter(None, found)),
        authority=authority,
        party=party,
        revoked=revoked,
        usable=not faulty([key]),
    )


def data(settings: SiteSettings) -> list[Finding]:
    """Whether some run can train on a site's pictures, by what their headers say; no pixel is read."""
    fix = "change [data], and look at it: mple data show"
    try:
        absent = settings.data.absent()
        if absent:
            return [warn("data", absent, "mple data fetch with this file; else the node fetches as it starts")]
        part = choose_part(settings.data)
        shape, classes = part.catalogue.shape, len(part.catalogue.classes)
        task = task_of(part.catalogue.train.labels)
        train, test, val = len(part.train), len(part.test), len(part.val)
        check_any_run(shape, classes=classes, train=train, test=test, val=val, task=task)
    except ValueError as unusable:
        return [fault("data", str(unusable), fix)]
    size = f"{shape.channels}x{shape.height}x{shape.width}"
    counts = f"{train} training, {val} validation and {test} test pictures"
    cause = f"{part.catalogue.name}: {counts} of {size}"
    return [
        ok("data", f"{cause}, {classes} {task}, patients {part.patients}"),
        *(warn("data", note, fix) for note in part.notes),
    ]


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
    shared = shared_by(state) if there == state else None
    if shared is not None:
        return fault("state", *shared)
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
        if own.usable and _serves_itself(host, port, own.files):
            return ok("listen", f"this node serves at {listen} now")
        if isinstance(refusal, PermissionError):
            return fault("listen", f"port {port} is not open to this user", "take a port above 1023")
        if dial(host, port, _TIMEOUT_S) is None:
            cause, fix = f"{listen} is taken by another program", "stop the other program or take another port"
            return fault("listen", cause, fix)
        cause = f"can't listen on {listen}: {refusal.strerror}"
        return fault("listen", cause, "give an address that is this machine's")
    return ok("listen", f"{listen} is free: the node can listen there, and does not now")


def _key_mode(key: Path) -> Finding | None:
    mode = stat.S_IMODE(key.stat().st_mode)
    if not mode & 0o077:
        return None
    return fault("key", f"key {key} has mode {mode:04o} and is open to others", "renew it, or chmod go= it")


def _revocation(files: TlsFiles, held: certificates.Held) -> tuple[RevokedList, Finding]:
    path = files.ca.with_name(REVOKED_LIST)
    try:
        revoked = read_revoked(path.read_bytes(), files.ca.read_bytes())
    except FileNotFoundError:
        revoked = RevokedList()
    except (OSError, TlsError) as unsound:
        return RevokedList(), fault("revocation", f"{path}: {unsound}", "install it anew: mple pki install-crl")
    return revoked, certificates.revocation(held, revoked)


def _serves_itself(host: str, port: int, files: TlsFiles) -> bool:
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    seen = shake_hands(local, local, port, files, _TIMEOUT_S)
    mine = ssl.PEM_cert_to_DER_cert(files.certificate.read_text(encoding="ascii"))
    return isinstance(seen, ShakeSeen) and seen.certificate_der == mine
