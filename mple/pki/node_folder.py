"""What a node does in its own TLS folder: put a certificate in place, ask for the next one, take lists of revoked ones.

A node may run meanwhile. Whatever is put in place lies whole beside the old first, as NAME.new; then names change, and
a change that was cut short is completed by whoever reads the files next (`mple.rpc.checked_party`).
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mple.disk.private import make_private, private_file
from mple.disk.whole_files import fsync_folder, write_whole
from mple.pki.authority import (
    CA_CERTIFICATE,
    NODE_CERTIFICATE,
    NODE_KEY,
    NODE_REQUEST,
    PkiError,
    Request,
    create_authority,
    hosts_of,
    issue,
    key_pem,
    names_of,
    read_file,
    signed_request,
    write_key,
)
from mple.rpc import Party, TlsError, TlsFiles
from mple.rpc.revoked import REVOKED_LIST, RevokedList, read_revoked
from mple.rpc.tls import checked_party, is_key_of, party_of_certificate
from mple.rpc.tls_files import UNSOUND

_WAITING_KEY = f"{NODE_KEY}.new"


def renew(directory: Path, *, new_key: bool = False) -> bytes:
    """Make a signing request for a node that has a certificate: the same identity and hosts; returns it as PEM.

    The key stays the same, so that envelopes which were sealed to it can still be opened, or is replaced by a new one
    that waits as `node.key.new` for `install`. The last request counts: a key that waited for an earlier one goes.

    Raises PkiError: the folder holds no certificate and key to renew.
    """
    way_out = "start with 'mple pki request'"
    held = read_file(directory / NODE_CERTIFICATE, "certificate", way_out)
    try:
        certificate = x509.load_pem_x509_certificate(held)
        names = names_of(party_of_certificate(certificate), hosts_of(certificate))
        key = load_pem_private_key(read_file(directory / NODE_KEY, "key", way_out), password=None)
    except UNSOUND as fault:
        raise PkiError(f"{directory / NODE_CERTIFICATE} can't be renewed: {fault}; request a new one") from None
    if not new_key and not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PkiError(f"{directory / NODE_KEY} is no EC key; renew with --new-key")
    waiting = directory / _WAITING_KEY
    waiting.unlink(missing_ok=True)
    if new_key:
        key = ec.generate_private_key(ec.SECP256R1())
        write_key(waiting, key)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    made = signed_request(key, certificate.subject, names)
    write_whole(directory / NODE_REQUEST, made)
    return made


def install(directory: Path, certificate_pem: bytes, ca_pem: bytes) -> Party:
    """Put a certificate and its authority beside the node's key, after checking that they belong together.

    A key that `renew` has left waiting takes the place of the old one with its certificate. A list of revoked
    certificates of another authority than the one installed goes.

    Guarantees: a running node goes on with what it has until all is in place. If the program or the machine fails
    within, the node starts with the old certificate or with the new one.

    Raises PkiError: they don't belong together; nothing is changed then.
    """
    waiting = directory / _WAITING_KEY
    if not (directory / NODE_KEY).exists() and not waiting.exists():
        raise PkiError(f"no key in {directory}; start with 'mple pki request'")
    fresh = {NODE_CERTIFICATE: certificate_pem, CA_CERTIFICATE: ca_pem}
    for name, content in fresh.items():
        write_whole(directory / f"{name}.new", content)
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(ca_pem))
        key = waiting if waiting.exists() and is_key_of(waiting, certificate) else directory / NODE_KEY
        files = TlsFiles(directory / f"{CA_CERTIFICATE}.new", directory / f"{NODE_CERTIFICATE}.new", key)
        held, foreign = _held_list(directory, ca_pem)
        party = checked_party(files, held)
    except UNSOUND as fault:
        for name in fresh:
            (directory / f"{name}.new").unlink(missing_ok=True)
        raise PkiError(f"the certificate can't be installed: {str(fault) or 'the authority did not sign it'}") from None
    # From the first new name on, the files that still lie beside are what is completed after a failure.
    if key == waiting:
        os.replace(waiting, directory / NODE_KEY)
    for name in fresh:
        with suppress(FileNotFoundError):  # a node that runs has completed it
            os.replace(directory / f"{name}.new", directory / name)
    if foreign:
        (directory / REVOKED_LIST).unlink(missing_ok=True)
    fsync_folder(directory)
    return party


def install_list(directory: Path, crl_pem: bytes) -> RevokedList:
    """Put a list of revoked certificates into a node's TLS folder; a running node takes it up within a second.

    Raises PkiError: it is not of the node's authority, is damaged, or older than the one that is there.
    """
    ca_pem = read_file(directory / CA_CERTIFICATE, "authority certificate", "install the node's certificate first")
    try:
        fresh = read_revoked(crl_pem, ca_pem)
    except TlsError as fault:
        raise PkiError(str(fault)) from None
    held, _ = _held_list(directory, ca_pem)
    path = directory / REVOKED_LIST
    if fresh.number < held.number:
        raise PkiError(f"list {fresh.number} is older than list {held.number} in {path}; fetch the newest one")
    write_whole(path, crl_pem)
    return fresh


def throwaway(directory: Path, parties: Sequence[Party], hosts: Sequence[str], folders: Sequence[Path]) -> None:
    """An authority for one simulation, and a certificate for each party in its folder. Quick,
    for there may be thousands: what a power cut takes of a simulation is simulated again."""
    authority = create_authority(directory, parties[0].consortium, days=30)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in parties]
    wanted = [Request(party, tuple(hosts), key.public_key()) for party, key in zip(parties, keys, strict=True)]
    issued = issue(authority, wanted, days=30)
    ca_pem = authority.certificate_pem
    for folder, key, certificate in zip(folders, keys, issued, strict=True):
        make_private(folder)
        for name, content in {NODE_KEY: key_pem(key), NODE_CERTIFICATE: certificate, CA_CERTIFICATE: ca_pem}.items():
            private_file(folder / name).write_bytes(content)


def _held_list(directory: Path, ca_pem: bytes) -> tuple[RevokedList, bool]:
    """The list that lies in a folder, and whether it is of no use with this authority: damaged or another's."""
    path = directory / REVOKED_LIST
    if not path.exists():
        return RevokedList(), False
    try:
        return read_revoked(path.read_bytes(), ca_pem), False
    except TlsError:
        return RevokedList(), True
