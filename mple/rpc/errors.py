"""One catalogue of what can go wrong between parties, and the one way in which it crosses the wire.

A code travels as trailing metadata `mple-error`, the way out as `mple-fix-bin` (UTF-8); the status text is the code's
public sentence and the error's own detail. Errors of ours are raised with details that are fit for the peer; anything
else that goes wrong is INTERNAL: its cause is logged here and stays here.
"""

from enum import StrEnum
from typing import Self

import grpc

from mple.disk.damage import DamagedError
from mple.disk.scarcity import scarcity_of
from mple.disk.storage_faults import storage_fault_of
from mple.printable import printable

METADATA_KEY = "mple-error"
FIX_KEY = "mple-fix-bin"
_MOST_TEXT = 2_000


_S = grpc.StatusCode


class ErrorCode(StrEnum):
    """The catalogue: stable names, which scripts and peers may rely on, each with gRPC's status and a sentence."""

    def __new__(cls, name: str, status: grpc.StatusCode, sentence: str) -> Self:
        """A name with what it looks like on the wire."""
        code = str.__new__(cls, name)
        code._value_, code.status, code.sentence = name, status, sentence
        return code

    status: grpc.StatusCode
    sentence: str

    UNIDENTIFIED = "UNIDENTIFIED", _S.UNAUTHENTICATED, "the certificate does not say who the caller is"
    CERTIFICATE_REVOKED = "CERTIFICATE_REVOKED", _S.UNAUTHENTICATED, "the caller's certificate has been revoked"
    ROLE_NOT_ALLOWED = "ROLE_NOT_ALLOWED", _S.PERMISSION_DENIED, "this role may not make this call"
    FOREIGN_CONSORTIUM = "FOREIGN_CONSORTIUM", _S.PERMISSION_DENIED, "the caller is of another consortium"
    UNKNOWN_PARTY = "UNKNOWN_PARTY", _S.PERMISSION_DENIED, "the run does not have this party"
    ALREADY_JOINED = "ALREADY_JOINED", _S.ALREADY_EXISTS, "the party has already joined with other content"
    # Retried: the site may know before the serving party does that its old link is dead.
    DUPLICATE_STREAM = "DUPLICATE_STREAM", _S.ABORTED, "the site already has a stream"
    SCHEMA_MISMATCH = "SCHEMA_MISMATCH", _S.FAILED_PRECONDITION, "the site's images differ from the others'"
    IMAGES_UNFIT = "IMAGES_UNFIT", _S.FAILED_PRECONDITION, "the run can't train on images of this kind"
    EMPTY_SITE = "EMPTY_SITE", _S.FAILED_PRECONDITION, "the site has no training image"
    PLAN_HASH_MISMATCH = "PLAN_HASH_MISMATCH", _S.FAILED_PRECONDITION, "the parties follow different plans"
    WRONG_PHASE = "WRONG_PHASE", _S.UNAVAILABLE, "the run is not in the phase for this call"
    UNKNOWN_KEY_REF = "UNKNOWN_KEY_REF", _S.FAILED_PRECONDITION, "the run does not have this key"
    KEY_CHANGE_REFUSED = "KEY_CHANGE_REFUSED", _S.FAILED_PRECONDITION, "the change of keys was not accepted"
    LAYER_REJECTED = "LAYER_REJECTED", _S.FAILED_PRECONDITION, "the augmented layer was not accepted"
    FILE_DIGEST_MISMATCH = "FILE_DIGEST_MISMATCH", _S.DATA_LOSS, "the file's bytes differ from their digest"
    FILE_OFFSET = "FILE_OFFSET", _S.ABORTED, "the file's bytes do not go on where they must"
    STEM_REJECTED = "STEM_REJECTED", _S.FAILED_PRECONDITION, "the stem does not fit the run"
    WEIGHTS_REJECTED = "WEIGHTS_REJECTED", _S.FAILED_PRECONDITION, "the first weights do not fit the run"
    RANKS_REJECTED = "RANKS_REJECTED", _S.FAILED_PRECONDITION, "the ranks of the compute node do not fit the run"
    MIRRORING_REJECTED = (
        "MIRRORING_REJECTED",
        _S.FAILED_PRECONDITION,
        "the channels' mirror images were not accepted",
    )
    ENVELOPE_REJECTED = "ENVELOPE_REJECTED", _S.FAILED_PRECONDITION, "the sealed envelope was not accepted"
    SAMPLE_NOT_PLANNED = "SAMPLE_NOT_PLANNED", _S.FAILED_PRECONDITION, "the plan does not have this sample"
    RELEASE_LIMIT = "RELEASE_LIMIT", _S.FAILED_PRECONDITION, "the plan allows no further release"
    MESSAGE_MALFORMED = "MESSAGE_MALFORMED", _S.INVALID_ARGUMENT, "the message contradicts the plan or itself"
    CHECKSUM_MISMATCH = "CHECKSUM_MISMATCH", _S.ABORTED, "the message was damaged on its way"
    UNKNOWN_REQUEST = "UNKNOWN_REQUEST", _S.INVALID_ARGUMENT, "nobody asked for this"
    PROTOCOL_VERSION = "PROTOCOL_VERSION", _S.FAILED_PRECONDITION, "the programs' protocol versions differ"
    STREAM_TRUNCATED = "STREAM_TRUNCATED", _S.ABORTED, "the stream ended before it was whole"
    TOO_MANY_CALLS = "TOO_MANY_CALLS", _S.RESOURCE_EXHAUSTED, "the caller has too many calls open"
    RUN_FAILED = "RUN_FAILED", _S.FAILED_PRECONDITION, "the run has failed"
    GOING_DOWN = "GOING_DOWN", _S.UNAVAILABLE, "the party is stopped; it goes on when it is started again"
    STALLED = "STALLED", _S.DEADLINE_EXCEEDED, "nothing moved for too long"
    STORAGE_FULL = (
        "STORAGE_FULL",
        _S.UNAVAILABLE,
        "the party can't write to its disk; it has stopped and will go on when there is room",
    )
    OUT_OF_RESOURCES = (
        "OUT_OF_RESOURCES",
        _S.UNAVAILABLE,
        "the party has no descriptors, memory or threads left; it goes on when it has some",
    )
    DIVERGED = "DIVERGED", _S.FAILED_PRECONDITION, "training has diverged"
    INTERNAL = "INTERNAL", _S.INTERNAL, "a fault of the program; its log has the details"


class MpleError(Exception):
    """An error with a code of the catalogue. `detail` says what happened, fit to be shown to the peer; `fix` the way
    out, where it is plain. Both are made printable, since they quote peers or are a peer's own words."""

    def __init__(self, code: ErrorCode, detail: str = "", fix: str = "") -> None:
        self.code, self.detail, self.fix = code, printable(detail, _MOST_TEXT), printable(fix, _MOST_TEXT)
        super().__init__(f"{code}: {code.sentence}" + (f": {self.detail}" if detail else ""))

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later."""
        return self.code.status in (_S.UNAVAILABLE, _S.ABORTED, _S.RESOURCE_EXHAUSTED)


def error_for(fault: Exception) -> MpleError:
    """What a peer is told of any exception: an error of the catalogue as it is, of the rest only its kind."""
    if scarcity_of(fault) is not None:
        return MpleError(ErrorCode.OUT_OF_RESOURCES)
    if (own := storage_fault_of(fault)) is not None:
        return MpleError(ErrorCode.GOING_DOWN if isinstance(own, DamagedError) else ErrorCode.STORAGE_FULL)
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
    details = (fault.details() or "").removeprefix(f"{code}: {code.sentence}").removeprefix(": ")
    return MpleError(code, details, trailing.get(FIX_KEY, ""))
