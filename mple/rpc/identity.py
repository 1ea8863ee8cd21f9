"""Who a party is: the URI in its certificate's subject alternative name, never a field of a message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, cast

from mple.printable import printable, require_name
from mple.rpc.errors import ErrorCode, MpleError

SERVER_NAMES = "mple.internal"
"""Domain of `Party.server_name`; no host of a request may be in it. The top level is reserved for private use."""


class Role(StrEnum):
    """What a party does."""

    SITE = "site"
    COORDINATOR = "coordinator"
    COMPUTE = "compute"

    @property
    def serves(self) -> bool:
        """Whether others dial a node of this role; nobody dials a site."""
        return self is not Role.SITE


@dataclass(frozen=True, slots=True)
class Party:
    """One party of a consortium."""

    consortium: str
    role: Role
    name: str

    def __post_init__(self) -> None:
        for what, text in (("consortium", self.consortium), ("name", self.name)):
            require_name(what, text)

    @property
    def uri(self) -> str:
        """As in the certificate: mple://consortium/role/name."""
        return f"mple://{self.consortium}/{self.role}/{self.name}"

    @property
    def server_name(self) -> str:
        """What TLS knows it by when it serves, beside its hosts: the name that each handshake demands. The authority
        puts it into the certificates of roles that serve, and into no other."""
        return f"{self.name}.{self.role}.{self.consortium}.{SERVER_NAMES}"

    @property
    def label(self) -> str:
        """As in ledgers and logs: role/name."""
        return f"{self.role}/{self.name}"

    @classmethod
    def parse(cls, uri: str) -> Party:
        """The party of a URI. Raises ValueError: it is no mple URI."""
        scheme, _, rest = uri.partition("://")
        parts = rest.split("/")
        if scheme != "mple" or len(parts) != 3 or parts[1] not in set(Role):
            raise ValueError(
                f"{printable(repr(uri), 300)} is no identity; needs mple://consortium/role/name with a role of "
                f"{', '.join(Role)}"
            )
        return cls(parts[0], Role(parts[1]), parts[2])


def rank_label(label: str, rank: int) -> str:
    """How logs call one process of a compute node of several ranks: the first as the party, the others "compute/x rank
    1". Their messages go by the party's own label, for all of them have its certificate."""
    return f"{label} rank {rank}" if rank else label


class Caller(Protocol):
    """A call whose caller TLS knows."""

    def auth_context(self) -> Any:
        """What TLS knows of it: lists of values by name."""


def label_of(context: Caller) -> str:
    """The caller's label, "unknown" where its certificate does not tell."""
    try:
        return peer_of(context).label
    except MpleError:
        return "unknown"


def peer_of(context: Caller) -> Party:
    """The caller, from its verified certificate.

    Raises MpleError: UNIDENTIFIED when the certificate bears no mple URI or several.
    """
    shown = cast("Mapping[str, Sequence[bytes]]", context.auth_context())
    uris = [value.decode("utf-8", "replace") for value in shown.get("peer_uri", ())]
    ours = [uri for uri in uris if uri.startswith("mple://")]
    if len(ours) != 1:
        raise MpleError(ErrorCode.UNIDENTIFIED, f"the certificate bears {len(ours)} mple URIs; needs one")
    try:
        return Party.parse(ours[0])
    except ValueError as fault:
        raise MpleError(ErrorCode.UNIDENTIFIED, str(fault)) from None
