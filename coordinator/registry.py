"""What parties may bring: profiles checked against the run and against each other. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from mple.plan import CoordinatorSettings
from mple.plan.run_plan import PROTOCOL_VERSION
from mple.rpc import ErrorCode, MpleError, Party, Role
from mple.v1 import coordinator_pb2


def check_join(
    request: coordinator_pb2.JoinRequest,
    party: Party,
    settings: CoordinatorSettings,
    joined: Mapping[str, coordinator_pb2.JoinRequest],
) -> None:
    """Refuse a party that does not fit the run.

    Args:
        request: What it brings.
        party: Who it is, by its certificate.
        settings: The run's.
        joined: Earlier requests by label.

    Raises:
        MpleError: PROTOCOL_VERSION, UNKNOWN_SITE, ALREADY_JOINED, EMPTY_SITE, SCHEMA_MISMATCH or BATCH_MALFORMED.
    """
    if request.protocol_version != PROTOCOL_VERSION:
        raise MpleError(
            ErrorCode.PROTOCOL_VERSION, f"{party.label} speaks {request.protocol_version}, this one {PROTOCOL_VERSION}"
        )
    known = settings.run.sites if party.role is Role.SITE else (settings.run.compute,)
    if party.name not in known:
        raise MpleError(ErrorCode.UNKNOWN_SITE, f"{party.label} is not one of {', '.join(known)}")
    if request.WhichOneof("party") != party.role.value:
        raise MpleError(ErrorCode.BATCH_MALFORMED, f"{party.label} joins as {request.WhichOneof('party')}")
    before = joined.get(party.label)
    if before is not None and before != request:
        raise MpleError(ErrorCode.ALREADY_JOINED, f"{party.label} has joined with other data or another key")
    if party.role is Role.SITE:
        _check_site(request.site, party, joined)


def _check_site(
    site: coordinator_pb2.SiteProfile, party: Party, joined: Mapping[str, coordinator_pb2.JoinRequest]
) -> None:
    if site.train_images < 1:
        raise MpleError(ErrorCode.EMPTY_SITE, f"{party.label} brings no training image")
    key = site.key_ref
    if key.site != party.name or key.epoch < 1 or len(key.fingerprint) != 32:
        raise MpleError(ErrorCode.UNKNOWN_KEY_REF, f"{party.label} brings the key of {key.site!r}")
    others = [label for label, other in joined.items() if other.HasField("site") and label != party.label]
    if not others:
        return
    first = joined[others[0]].site
    for what, own, other in (
        ("images of", _shape(site), _shape(first)),
        ("the classes", list(site.classes), list(first.classes)),
    ):
        if own != other:
            raise MpleError(
                ErrorCode.SCHEMA_MISMATCH, f"{party.label} brings {what} {own}, {others[0]} brought {other}"
            )


def _shape(site: coordinator_pb2.SiteProfile) -> str:
    return f"{site.channels}x{site.height}x{site.width}"
