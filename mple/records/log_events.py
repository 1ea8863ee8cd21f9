"""Words in nodes' logs that others steer by: the live view of a simulation, and the faults that chaos runs inject.

A line of `log.jsonl` is written by `mple.node.logs`. It may have any event and any fields; what is read is here.
"""

from dataclasses import dataclass, fields
from enum import StrEnum

from mple.disk.json_records import read_json, structured
from mple.printable import printable


class LogEvent(StrEnum):
    """An event that somebody waits for or counts: of the coordinator, but for `PLAN` and `RETRY`, which all have."""

    PARTY_JOINED = "party_joined"
    PLAN = "plan"
    LAYER_RELEASED = "layer_released"
    PHASE = "phase"
    PARTY_FAILED = "party_failed"
    TOTALS_REPORTED = "totals_reported"
    """A party has told the sums of its ledger, and so knows that the run has finished."""
    RETRY = "retry"


@dataclass(frozen=True, kw_only=True, slots=True)
class LogLine:
    """What is read of a line."""

    event: str
    """A `LogEvent`, or another word."""
    level: str
    text: str
    party: str = ""
    """Label of the party that the event is about: "site/north"."""
    site: str = ""
    phase: str = ""


def read_log_line(line: bytes) -> LogLine:
    """A line of a node's log, other fields left out; ValueError where it is none."""
    try:
        raw = read_json(line, "the line")
        known = {field.name: raw[field.name] for field in fields(LogLine) if field.name in raw}
    except (ValueError, TypeError):
        raise ValueError(f"this is no line of a node's log: {printable(repr(line[:200]), 200)}") from None
    return structured(LogLine, known, "a node's log")
