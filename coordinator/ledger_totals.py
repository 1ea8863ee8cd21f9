"""What each process says its ledger comes to, once the run has finished: a party, or one rank of the compute node."""

from coordinator.memory.state_file import StateFile, as_text
from mple.node.logs import log
from mple.records.log_events import LogEvent
from mple.rpc import ErrorCode, MpleError, Party, Role
from mple.rpc.identity import rank_label
from mple.v1 import coordinator_pb2


def keep_totals(file: StateFile, caller: Party, totals: coordinator_pb2.LedgerTotals, ranks: int) -> None:
    """Keep the sums of a process; `ranks` is how many the compute node has.

    Raises MpleError: MESSAGE_MALFORMED when the party has no such rank.
    """
    there = ranks if caller.role is Role.COMPUTE else 1
    if totals.rank >= there:
        raise MpleError(
            ErrorCode.MESSAGE_MALFORMED, f"totals of rank {totals.rank} of {caller.label}, which has {there}"
        )
    process = rank_label(caller.label, totals.rank)
    known = file.fact(f"totals/{process}")
    file.keep_fact(f"totals/{process}", totals.SerializeToString(deterministic=True))
    if known is None:
        log(LogEvent.TOTALS_REPORTED, f"{process} has reported its totals", party=process)


def totals_from(file: StateFile) -> set[str]:
    """Labels of the processes whose sums are here."""
    rows = file.rows("SELECT name FROM facts WHERE name LIKE 'totals/%'")
    return {as_text(row[0]).removeprefix("totals/") for row in rows}
