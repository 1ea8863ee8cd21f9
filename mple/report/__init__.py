"""What a finished run comes to: the merged ledger, `summary.json`, and tables of it."""

from mple.report.summary import Summary, SummaryError, read_summary, summarise
from mple.report.tables import print_summary

__all__ = ["Summary", "SummaryError", "print_summary", "read_summary", "summarise"]
