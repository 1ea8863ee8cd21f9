"""Metering: what each message was, how large, and whether the parties' ledgers agree."""

from mple.meter.facts import SAMPLE_KINDS, Measure, MessageFacts, MessageKind, measure
from mple.meter.ledger import Direction, Ledger, LedgerEntry

__all__ = ["SAMPLE_KINDS", "Direction", "Ledger", "LedgerEntry", "Measure", "MessageFacts", "MessageKind", "measure"]
