"""Words in nodes' logs that others steer by: the live view of a simulation, and the faults that chaos runs inject.

A line of `log.jsonl` is written by `mple.node.logs`. It may have any event and any fields; what is read is here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from enum import StrEnum

from mple.disk.json_records import structured


class LogEvent(StrEnum):
    """An event that somebody waits for or counts."""

    PARTY_JOINED = "party_joined"
    """The coordinator: `party` has announced itself."""
    PLAN = "plan"
    """Any node: the plan is made or agreed on."""
    LAYER_RELEASED = "layer_released"
    """The coordinator: the layer of `site` has passed review."""
    PHASE = "phase"
    """The coordinator: the run is in another `phase`."""
    PARTY_FAILED = "party_failed"
    """The coordinator: `party` can't go on."""
    TOTALS_REPORTED = "totals_reported"
    """The coordinator: `party` has reported the totals of its ledger, and so knows that the run has finished."""
    RETRY = "retry"
    """Any node: a peer can't be reached and is tried again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogLine:
    """What is read of a line."""

    event: str
    """A `LogEvent`, or another word."""
    level: str
    """`info`, `warning`, `error`, ..."""
    text: str
    party: str = ""
    """Label of the party that the event is about: "site/north"."""
    site: str = ""
    phase: str = ""


def read_log_line(line: bytes) -> LogLine:
    """A line of a node's log; other fields than these are left out.

    Raises:
        ValueError: The line is not one of a node's log.
    """
    try:
        raw = json.loads(line)
        known = {field.name: raw[field.name] for field in fields(LogLine) if field.name in raw}
    except (ValueError, TypeError):
        raise ValueError(f"this is no line of a node's log: {line[:200]!r}") from None
    return structured(LogLine, known, "a node's log")
