"""A node's audit trail: who did what with which result, in lines that each seal the one before.

Two verbs write it, `open_audit` once per node and `audit` per event; `verify` finds what was changed afterwards.
Whoever can write the file can also write a whole new chain: the proof against that is a head (the hash of the newest
line) that somebody else keeps. Secrets, labels and pictures never come in here.
"""

from mple.audit.entry import AuditEntry
from mple.audit.trail import (
    FILE_NAME,
    AuditHead,
    AuditTrail,
    audit,
    audit_call,
    audit_head,
    audit_refusal,
    close_audit,
    open_audit,
    refusals,
)
from mple.audit.verification import read_entries, verify

__all__ = [
    "FILE_NAME",
    "AuditEntry",
    "AuditHead",
    "AuditTrail",
    "audit",
    "audit_call",
    "audit_head",
    "audit_refusal",
    "close_audit",
    "open_audit",
    "read_entries",
    "refusals",
    "verify",
]
