"""Two runs side by side as tables for a terminal, readable without colours."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from mple.report.comparison import Comparison


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print a table for each group of quantities, the settings that differ, and the comparison in a sentence."""
    first, second = comparison.names
    for title, rows in comparison.groups:
        table = _table(title, first, second, "difference")
        for row in rows:
            table.add_row(row.name, *row.values, row.difference)
        console.print(table)
    settings = _table("Settings that differ", first, second)
    for line in (*comparison.settings, *comparison.identities):
        settings.add_row(*line)
    console.print(settings)
    console.print(comparison.verdict, markup=False, highlight=False, soft_wrap=True)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_style="bold", box=None, pad_edge=False)
    table.title_justify = "left"
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    return table
