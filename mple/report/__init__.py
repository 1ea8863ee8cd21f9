"""What a finished run comes to: the merged ledger, `summary.json`, tables, a page, two runs side by side, exports.

`summary` gathers a run's files and `tables` prints them. `page` puts the rest together as HTML: `verdict`, `waterfall`,
`traffic`, `charts`, `sample_pictures`, `plan_facts`; each turns the run's files into what a template in `templates/`
draws. `comparison` sets two runs side by side, `ledger_export` writes CSV and Parquet. The page's template library
takes a moment to load, so what needs it is imported where it is used.
"""

from mple.report.summary import Summary, read_summary, summarise
from mple.report.tables import print_summary

__all__ = ["Summary", "print_summary", "read_summary", "summarise"]
