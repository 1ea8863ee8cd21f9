"""What the coordinator's events say: the end of the run, its phase, its plan, the parties' certificates."""

from collections.abc import Mapping

from mple.pki import verify_certificate
from mple.plan import PlanError, RunPlan
from mple.rpc import ErrorCode, MpleError, Party
from mple.v1 import coordinator_pb2


def ended(event: coordinator_pb2.WatchResponse) -> bool:
    """Whether this event ends the run."""
    return event.WhichOneof("event") == "phase_changed" and event.phase_changed.phase in (
        coordinator_pb2.PHASE_FINISHED,
        coordinator_pb2.PHASE_FAILED,
    )


def phase_name(event: coordinator_pb2.PhaseChanged) -> str:
    """The phase that the run has entered, in lower case.

    Raises MpleError: MESSAGE_MALFORMED for a phase that this program does not know.
    """
    if event.phase not in coordinator_pb2.Phase.values():
        text = f"the coordinator announces phase {event.phase}, which this program does not know"
        raise MpleError(ErrorCode.MESSAGE_MALFORMED, text)
    return coordinator_pb2.Phase.Name(event.phase).removeprefix("PHASE_").lower()


def read_plan(event: coordinator_pb2.PlanMade) -> RunPlan:
    """The plan of an event, its hash checked.

    Raises MpleError: PLAN_HASH_MISMATCH when text and hash differ or the text is no plan of this version.
    """
    try:
        plan = RunPlan.from_json(event.plan_json)
    except PlanError as fault:
        raise MpleError(ErrorCode.PLAN_HASH_MISMATCH, str(fault)) from None
    if plan.sha256() != event.plan_sha256:
        raise MpleError(
            ErrorCode.PLAN_HASH_MISMATCH,
            f"the plan hashes to {plan.sha256().hex()[:16]}, the coordinator says {event.plan_sha256.hex()[:16]}",
        )
    return plan


def certificate_of(certificates: Mapping[str, bytes], party: Party, ca_pem: bytes) -> bytes:
    """A party's certificate (DER) of those that the coordinator sent, by label, checked against this node's own
    authority.

    Raises MpleError: UNIDENTIFIED when there is none, or one that is not the party's under that authority.
    """
    try:
        der = certificates[party.label]
        verify_certificate(der, ca_pem, party)
    except (KeyError, ValueError):
        text = f"the coordinator sent no valid certificate of {party.label}"
        raise MpleError(ErrorCode.UNIDENTIFIED, text) from None
    return der
