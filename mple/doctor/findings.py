"""What a diagnosis says: findings, each a step with its cause and its fix."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"
    """Works now; look at it soon."""
    FAULT = "fault"
    """The node can't work."""
    SKIPPED = "skipped"
    """Not looked at, because an earlier fault makes it pointless."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One step."""

    step: str
    """What was looked at, in a word or two."""
    severity: Severity
    cause: str
    """What is the case, in one sentence without a full stop."""
    fix: str = ""
    """What to do about it; empty when all is well."""


@dataclass(frozen=True, slots=True)
class Examination:
    """All findings on this node or on one peer, in the order of the steps."""

    subject: str
    own: bool
    """Of this node's files and machine, not of a peer."""
    findings: tuple[Finding, ...]

    @property
    def severity(self) -> Severity:
        """The worst of its findings."""
        found = {finding.severity for finding in self.findings}
        return next((worst for worst in (Severity.FAULT, Severity.WARN) if worst in found), Severity.OK)


def ok(step: str, cause: str) -> Finding:
    """All is well."""
    return Finding(step, Severity.OK, cause)


def warn(step: str, cause: str, fix: str) -> Finding:
    """It works now."""
    return Finding(step, Severity.WARN, cause, fix)


def fault(step: str, cause: str, fix: str) -> Finding:
    """It can't work."""
    return Finding(step, Severity.FAULT, cause, fix)


def skipped(steps: Iterable[str], because: str) -> Finding:
    """The steps that were not gone."""
    return Finding("rest", Severity.SKIPPED, f"not looked at: {', '.join(steps)}; {because}")


def faulty(findings: Iterable[Finding]) -> bool:
    """Whether one of them is a fault."""
    return any(finding.severity is Severity.FAULT for finding in findings)
