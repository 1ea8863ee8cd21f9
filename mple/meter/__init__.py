"""Metering: what each message was, how large, and whether the parties' ledgers agree."""

from mple.meter.facts import Measure, MessageFacts, MessageKind, measure
from mple.meter.ledger import Direction, Ledger, LedgerEntry, LedgerTotals, MessageClass, Tally
from mple.meter.reconciliation import Balance, Overhead, SiteImages, SiteOverhead, balance, export_csv, merge, overhead
from mple.meter.relay import CountingRelay

__all__ = [
    "Balance",
    "CountingRelay",
    "Direction",
    "Ledger",
    "LedgerEntry",
    "LedgerTotals",
    "Measure",
    "MessageClass",
    "MessageFacts",
    "MessageKind",
    "Overhead",
    "SiteImages",
    "SiteOverhead",
    "Tally",
    "balance",
    "export_csv",
    "measure",
    "merge",
    "overhead",
]
