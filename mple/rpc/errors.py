"""One catalogue of what can go wrong between parties, and the one way in which it crosses the wire.

A code travels as trailing metadata `mple-error`, the way out as `mple-fix-bin` (UTF-8); the status text is the code's
public sentence and the error's own detail. Errors of ours are raised with details that are fit for the peer; anything
else that goes wrong is INTERNAL: its cause is logged here and stays here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import grpc

from mple.disk.storage_faults import storage_fault_of

METADATA_KEY = "mple-error"
FIX_KEY = "mple-fix-bin"


class ErrorCode(StrEnum):
    """Stable names; scripts and peers may rely on them."""

    UNIDENTIFIED = "UNIDENTIFIED"
    CERTIFICATE_REVOKED = "CERTIFICATE_REVOKED"
    ROLE_NOT_ALLOWED = "ROLE_NOT_ALLOWED"
    FOREIGN_CONSORTIUM = "FOREIGN_CONSORTIUM"
    UNKNOWN_PARTY = "UNKNOWN_PARTY"
    ALREADY_JOINED = "ALREADY_JOINED"
    DUPLICATE_STREAM = "DUPLICATE_STREAM"
    SCHEMA_MISMATCH = "SCHEMA_MISMATCH"
    EMPTY_SITE = "EMPTY_SITE"
    PLAN_HASH_MISMATCH = "PLAN_HASH_MISMATCH"
    WRONG_PHASE = "WRONG_PHASE"
    UNKNOWN_KEY_REF = "UNKNOWN_KEY_REF"
    KEY_CHANGE_REFUSED = "KEY_CHANGE_REFUSED"
    LAYER_REJECTED = "LAYER_REJECTED"
    LAYER_DIGEST_MISMATCH = "LAYER_DIGEST_MISMATCH"
    LAYER_OFFSET = "LAYER_OFFSET"
    STEM_REJECTED = "STEM_REJECTED"
    ENVELOPE_REJECTED = "ENVELOPE_REJECTED"
    SAMPLE_NOT_PLANNED = "SAMPLE_NOT_PLANNED"
    RELEASE_LIMIT = "RELEASE_LIMIT"
    MESSAGE_MALFORMED = "MESSAGE_MALFORMED"
    CHECKSUM_MISMATCH = "CHECKSUM_MISMATCH"
    UNKNOWN_REQUEST = "UNKNOWN_REQUEST"
    PROTOCOL_VERSION = "PROTOCOL_VERSION"
    STREAM_TRUNCATED = "STREAM_TRUNCATED"
    TOO_MANY_CALLS = "TOO_MANY_CALLS"
    RUN_FAILED = "RUN_FAILED"
    GOING_DOWN = "GOING_DOWN"
    STALLED = "STALLED"
    STORAGE_FULL = "STORAGE_FULL"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """How a code looks on the wire."""

    status: grpc.StatusCode
    sentence: str


_S = grpc.StatusCode
CATALOGUE: dict[ErrorCode, CatalogueEntry] = {
    ErrorCode.UNIDENTIFIED: CatalogueEntry(_S.UNAUTHENTICATED, "the certificate does not say who the caller is"),
    ErrorCode.CERTIFICATE_REVOKED: CatalogueEntry(_S.UNAUTHENTICATED, "the caller's certificate has been revoked"),
    ErrorCode.ROLE_NOT_ALLOWED: CatalogueEntry(_S.PERMISSION_DENIED, "this role may not make this call"),
    ErrorCode.FOREIGN_CONSORTIUM: CatalogueEntry(_S.PERMISSION_DENIED, "the caller is of another consortium"),
    ErrorCode.UNKNOWN_PARTY: CatalogueEntry(_S.PERMISSION_DENIED, "the run does not have this party"),
    ErrorCode.ALREADY_JOINED: CatalogueEntry(_S.ALREADY_EXISTS, "the party has already joined with other content"),
    # Retried: the site may know before the serving party does that its old link is dead.
    ErrorCode.DUPLICATE_STREAM: CatalogueEntry(_S.ABORTED, "the site already has a stream"),
    ErrorCode.SCHEMA_MISMATCH: CatalogueEntry(_S.FAILED_PRECONDITION, "the site's images differ from the others'"),
    ErrorCode.EMPTY_SITE: CatalogueEntry(_S.FAILED_PRECONDITION, "the site has no training image"),
    ErrorCode.PLAN_HASH_MISMATCH: CatalogueEntry(_S.FAILED_PRECONDITION, "the parties follow different plans"),
    ErrorCode.WRONG_PHASE: CatalogueEntry(_S.UNAVAILABLE, "the run is not in the phase for this call"),
    ErrorCode.UNKNOWN_KEY_REF: CatalogueEntry(_S.FAILED_PRECONDITION, "the run does not have this key"),
    ErrorCode.KEY_CHANGE_REFUSED: CatalogueEntry(_S.FAILED_PRECONDITION, "the change of keys was not accepted"),
    ErrorCode.LAYER_REJECTED: CatalogueEntry(_S.FAILED_PRECONDITION, "the augmented layer was not accepted"),
    ErrorCode.LAYER_DIGEST_MISMATCH: CatalogueEntry(_S.DATA_LOSS, "the layer's bytes differ from their digest"),
    ErrorCode.LAYER_OFFSET: CatalogueEntry(_S.ABORTED, "the layer's bytes do not go on where they must"),
    ErrorCode.STEM_REJECTED: CatalogueEntry(_S.FAILED_PRECONDITION, "the stem does not fit the run"),
    ErrorCode.ENVELOPE_REJECTED: CatalogueEntry(_S.FAILED_PRECONDITION, "the sealed envelope was not accepted"),
    ErrorCode.SAMPLE_NOT_PLANNED: CatalogueEntry(_S.FAILED_PRECONDITION, "the plan does not have this sample"),
    ErrorCode.RELEASE_LIMIT: CatalogueEntry(_S.FAILED_PRECONDITION, "the plan allows no further release"),
    ErrorCode.MESSAGE_MALFORMED: CatalogueEntry(_S.INVALID_ARGUMENT, "the message contradicts the plan or itself"),
    ErrorCode.CHECKSUM_MISMATCH: CatalogueEntry(_S.ABORTED, "the message was damaged on its way"),
    ErrorCode.UNKNOWN_REQUEST: CatalogueEntry(_S.INVALID_ARGUMENT, "nobody asked for this"),
    ErrorCode.PROTOCOL_VERSION: CatalogueEntry(_S.FAILED_PRECONDITION, "the programs' protocol versions differ"),
    ErrorCode.STREAM_TRUNCATED: CatalogueEntry(_S.ABORTED, "the stream ended before it was whole"),
    ErrorCode.TOO_MANY_CALLS: CatalogueEntry(_S.RESOURCE_EXHAUSTED, "the caller has too many calls open"),
    ErrorCode.RUN_FAILED: CatalogueEntry(_S.FAILED_PRECONDITION, "the run has failed"),
    ErrorCode.GOING_DOWN: CatalogueEntry(_S.UNAVAILABLE, "the party is stopped; it goes on when it is started again"),
    ErrorCode.STALLED: CatalogueEntry(_S.DEADLINE_EXCEEDED, "nothing moved for too long"),
    ErrorCode.STORAGE_FULL: CatalogueEntry(
        _S.UNAVAILABLE,
        "the party can't write to its disk; it has stopped and will go on when there is room",
    ),
    ErrorCode.INTERNAL: CatalogueEntry(_S.INTERNAL, "a fault of the program; its log has the details"),
}


class MpleError(Exception):
    """An error with a code of the catalogue.

    Args:
        code: Of the catalogue.
        detail: What happened, fit to be shown to the peer.
        fix: The way out where it is plain, for whoever reads `detail`.
    """

    def __init__(self, code: ErrorCode, detail: str = "", fix: str = "") -> None:
        self.code, self.detail, self.fix = code, detail, fix
        sentence = CATALOGUE[code].sentence
        super().__init__(f"{code}: {sentence}" + (f": {detail}" if detail else ""))

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later."""
        return CATALOGUE[self.code].status in (_S.UNAVAILABLE, _S.ABORTED, _S.RESOURCE_EXHAUSTED)


def error_for(fault: Exception) -> MpleError:
    """What a peer is told of any exception: an error of the catalogue as it is, of the rest only its kind."""
    if storage_fault_of(fault) is not None:
        return MpleError(ErrorCode.STORAGE_FULL)
    if isinstance(fault, MpleError) and fault.code is not ErrorCode.INTERNAL:
        return fault
    return MpleError(ErrorCode.INTERNAL)


def error_of(fault: grpc.RpcError) -> MpleError | None:
    """The catalogue's error behind a failed call, or None when the peer sent none."""
    if not isinstance(fault, grpc.Call):
        return None
    trailing = {
        key: value if isinstance(value, str) else value.decode("utf-8", "replace")
        for key, value in fault.trailing_metadata() or ()
    }
    if trailing.get(METADATA_KEY) not in set(ErrorCode):
        return None
    code = ErrorCode(trailing[METADATA_KEY])
    details = (fault.details() or "").removeprefix(f"{code}: {CATALOGUE[code].sentence}").removeprefix(": ")
    return MpleError(code, details, trailing.get(FIX_KEY, ""))
