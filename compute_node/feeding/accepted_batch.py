"""A batch of morphed samples from a site, checked against the plan and the keys of the run."""

from compute_node.layers.layer_bank import LayerBank, UnknownKeyError
from mple.plan import RunPlan
from mple.rpc import ErrorCode, MpleError
from mple.v1 import common_pb2
from mple.wire.batch import Batch, BatchError, batch_from_message


def accept_batch(
    plan: RunPlan, bank: LayerBank, message: common_pb2.MorphedBatch, site: str, *, samples: int, labelled: bool
) -> tuple[Batch, int]:
    """A site's batch and the number of the key that it was morphed under.

    Args:
        plan: The run's plan.
        bank: Of its keys.
        message: As received.
        site: Who sent it, by its certificate.
        samples: How many samples are due.
        labelled: Whether labels are due or forbidden.

    Raises MpleError: UNKNOWN_KEY_REF for a key that is not the site's or is revoked, CHECKSUM_MISMATCH for bytes that
    were damaged, MESSAGE_MALFORMED for all else that is not as the plan says.
    """
    geometry = plan.geometry
    try:
        key = bank.number(message.key_ref, site)
        codec = bank.codec(key)
        batch = batch_from_message(
            message,
            samples=samples,
            blocks=geometry.blocks,
            values=codec.values(geometry),
            codec=codec,
            labels=plan.label_form if labelled else None,
        )
    except UnknownKeyError as fault:
        raise MpleError(ErrorCode.UNKNOWN_KEY_REF, str(fault)) from None
    except BatchError as fault:
        code = ErrorCode.CHECKSUM_MISMATCH if fault.checksum else ErrorCode.MESSAGE_MALFORMED
        raise MpleError(code, str(fault)) from None
    return batch, key
