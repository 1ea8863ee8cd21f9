"""A diagnosis as text: lines for a person, JSON for a program."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.table import Table
from rich.text import Text

from mple.doctor.findings import Examination, Finding, Severity

_STYLES = {Severity.OK: "green", Severity.WARN: "yellow", Severity.FAULT: "bold red", Severity.SKIPPED: "dim"}
_STEP_WIDTH = 11
_SEVERITY_WIDTH = 6


def lines(examination: Examination) -> list[str]:
    """A heading and a line per finding, its fix below it."""
    told = [examination.subject]
    for one in examination.findings:
        mark, step = _marks(one)
        told.append(f"  {mark:{_SEVERITY_WIDTH}}{step:{_STEP_WIDTH}}{one.cause}")
        if one.fix:
            told.append(" " * (2 + _SEVERITY_WIDTH + _STEP_WIDTH) + f"-> {one.fix}")
    return told


def table(examination: Examination) -> Table:
    """The same for a terminal: coloured, each column wrapped by itself."""
    shown = Table.grid(padding=(0, 1, 0, 1))
    shown.title, shown.title_style, shown.title_justify = examination.subject, "bold", "left"
    for one in examination.findings:
        mark, step = _marks(one)
        cause = Text(one.cause, style="dim" if one.severity is Severity.SKIPPED else "")
        shown.add_row(Text(mark, style=_STYLES[one.severity]), step, cause)
        if one.fix:
            shown.add_row("", "", Text(f"-> {one.fix}", style="italic"))
    return shown


def verdict(examinations: Sequence[Examination]) -> str:
    """One sentence on all of it."""
    for severity, words in ((Severity.FAULT, "fault"), (Severity.WARN, "warning")):
        found = sum(one.severity is severity for each in examinations for one in each.findings)
        if found:
            return f"{found} {words}{'s' if found > 1 else ''}"
    return "all is well"


def as_json(examinations: Sequence[Examination], exit_code: int) -> str:
    """The same for programs; keys stay."""
    examined = [{**asdict(each), "severity": each.severity} for each in examinations]
    return json.dumps({"exit_code": exit_code, "examined": examined}, indent=2)


def _marks(finding: Finding) -> tuple[str, str]:
    return ("", "") if finding.severity is Severity.SKIPPED else (str(finding.severity), finding.step)
