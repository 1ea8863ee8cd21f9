"""One line of an audit trail, and its one way of being written: a line in any other form is no line of ours."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from mple.disk.json_records import canonical_json, record_from_json
from mple.printable import printable

Fact = str | int | float | bool
FIRST_PREVIOUS = "0" * 64
"""What the first line names as the hash of the line before it."""
_LEAST_BYTES = 128
"""Of a line: its fields' names and a hash."""
_MOST_TEXT = 500
"""Longest text of a fact; a peer's words may be in it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditEntry:
    """Something that happened at a node."""

    sequence: int
    """Place in the trail, from 1."""
    time: str
    """UTC, ISO 8601 with milliseconds."""
    node: str
    """Whose trail it is."""
    who: str
    """The certificate's party ("site/north"), or "local" for the node itself and its operator."""
    what: str
    """A fixed word."""
    result: str
    """"ok", or a code of the catalogue of errors."""
    facts: Mapping[str, Fact]
    previous: str
    """SHA-256 of the line before, without its newline, in hexadecimal."""

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-f]{64}", self.previous):
            raise ValueError(f"previous = {self.previous!r}; needs 64 hexadecimal digits")

    def to_line(self) -> bytes:
        """The entry as bytes, without a newline at the end and with none within."""
        return canonical_json(self, sort_keys=False)

    @classmethod
    def from_line(cls, line: bytes) -> AuditEntry | None:
        """Read a line; None when its fields are missing, strange or too many, or `to_line` writes them otherwise."""
        if not line.startswith(b'{"sequence":') or len(line) < _LEAST_BYTES:
            return None  # as the next lines would say, but sooner: a stranger's trail may have millions of them
        try:
            entry = record_from_json(cls, line, "it")
            return entry if entry.to_line() == line else None
        except ValueError:
            return None


def line_sha256(line: bytes) -> str:
    """A line's hash, as the next line names it."""
    return hashlib.sha256(line).hexdigest()


def tidy(facts: Mapping[str, Fact]) -> dict[str, Fact]:
    """Facts as a line can hold them: texts printable and cut, numbers that are not finite as texts."""

    def tidied(fact: Fact) -> Fact:
        if isinstance(fact, float) and not math.isfinite(fact):
            return str(fact)
        # A member of an enumeration becomes its text.
        return printable(fact, _MOST_TEXT) if isinstance(fact, str) else fact

    return {name: tidied(fact) for name, fact in facts.items()}
