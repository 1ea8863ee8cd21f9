"""Rotation and revocation of keys as the parties ask for and report them.

What follows from them is written by `coordinator.run` in one transaction, see `coordinator.key_events`.
"""

from coordinator.run import Run
from coordinator.site_keys import ErasureReported, KeyAnnounced, KeyWithdrawn, RotationStored
from mple.rpc import ErrorCode, MpleError, Party
from mple.v1 import common_pb2, coordinator_pb2

_FINGERPRINT_BYTES = 32


def rotate_key(run: Run, caller: Party, request: coordinator_pb2.RotateKeyRequest) -> None:
    """Take note of a site's next key; its layer follows as at set-up.

    Raises MpleError: PLAN_HASH_MISMATCH, UNKNOWN_KEY_REF for a key that is not the caller's or can't be, or as
    `coordinator.site_keys.step_keys`.
    """
    reference = request.key_ref
    _check(run, caller, reference, request.plan_sha256)
    run.advance(KeyAnnounced(caller.name, reference.epoch, reference.fingerprint.hex()))


def revoke_key(run: Run, caller: Party, request: coordinator_pb2.RevokeKeyRequest) -> None:
    """Withdraw a site's key: its layer is deleted here, and the compute node is told to erase what it holds.

    Raises MpleError: as `rotate_key`.
    """
    reference = request.key_ref
    _check(run, caller, reference, request.plan_sha256)
    run.advance(KeyWithdrawn(caller.name, reference.epoch, reference.fingerprint.hex()))


def report_key_stored(run: Run, report: coordinator_pb2.KeyStored) -> None:
    """The compute node holds the layer of a rotated key. Raises MpleError: UNKNOWN_KEY_REF, RUN_FAILED."""
    reference = report.key_ref
    run.advance(RotationStored(reference.site, reference.epoch, reference.fingerprint.hex()))


def report_key_erased(run: Run, report: coordinator_pb2.KeyErased) -> None:
    """The compute node has erased what it held under a revoked key.

    Raises MpleError: UNKNOWN_KEY_REF, KEY_CHANGE_REFUSED when the key is not revoked, RUN_FAILED.
    """
    reference = report.key_ref
    run.advance(
        ErasureReported(
            reference.site, reference.epoch, reference.fingerprint.hex(), report.samples, report.layer_bytes
        )
    )


def usable_keys(run: Run, site: str) -> list[common_pb2.KeyRef]:
    """The keys of a site that may have a layer."""
    return [
        common_pb2.KeyRef(site=key.site, epoch=key.epoch, fingerprint=bytes.fromhex(key.fingerprint))
        for key in run.state().keys
        if key.site == site and key.usable
    ]


def _check(run: Run, caller: Party, reference: common_pb2.KeyRef, plan_sha256: bytes) -> None:
    if plan_sha256 != run.plan.sha256():
        raise MpleError(
            ErrorCode.PLAN_HASH_MISMATCH,
            f"{caller.label} follows {plan_sha256.hex()[:16] or 'none'}, the run {run.plan.sha256().hex()[:16]}",
        )
    if reference.site != caller.name:
        raise MpleError(ErrorCode.UNKNOWN_KEY_REF, f"{caller.label} names a key of site {reference.site[:80]!r}")
    if reference.epoch < 1 or len(reference.fingerprint) != _FINGERPRINT_BYTES:
        raise MpleError(
            ErrorCode.UNKNOWN_KEY_REF,
            f"key epoch {reference.epoch}, fingerprint of {len(reference.fingerprint)} bytes; needs 1 or more, and "
            f"{_FINGERPRINT_BYTES}",
        )
