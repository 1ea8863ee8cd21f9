"""Certificates for a campaign outside of pytest."""

from __future__ import annotations

from pathlib import Path

from mple.pki import approve, create_authority, install, request
from mple.rpc import Party, Role, TlsFiles
from tests.support.served import PartyTls


def throwaway_tls(folder: Path) -> PartyTls:
    """Files of any party of consortium `test`, made at first use."""
    authority = create_authority(folder / "authority", "test")
    made: dict[tuple[Role, str], TlsFiles] = {}

    def tls(role: Role, name: str) -> TlsFiles:
        if (role, name) not in made:
            own = folder / f"{role}-{name}"
            asked = request(own, Party("test", role, name), ["127.0.0.1", "localhost"])
            install(own, approve(authority, asked), authority.certificate_pem)
            made[role, name] = TlsFiles.in_directory(own)
        return made[role, name]

    return tls
