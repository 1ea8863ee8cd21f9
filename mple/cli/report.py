"""`mple report` and `mple export`: what finished runs came to, as tables, pages and files."""

from pathlib import Path
from typing import Annotated

import typer

from mple.report import print_summary, read_summary
from mple.report.tables import say
from mple.terminal import echo, wide_console

_PAGE = ".html"


def report_run(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    other: Annotated[Path | None, typer.Argument(help="Folder of a second run, to compare with the first.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.html", help="The page; report.html in DIR by default.")
    ] = None,
    no_pictures: Annotated[
        bool, typer.Option("--no-pictures", help="Leave the sites' sample pictures out of the page.")
    ] = False,
) -> None:
    """Print the tables of a finished run and write its page; or set two runs side by side."""
    if out is not None and out.suffix != _PAGE:
        raise ValueError(f"--out {out}: the page is HTML; let its name end in {_PAGE}")
    console = wide_console()
    summary = read_summary(folder)
    # The templates' library takes a moment to load; the other verbs don't wait for it.
    if other is None:
        from mple.report.page import write_page

        print_summary(summary, console)
        page = write_page(summary, out, pictures=not no_pictures)
    else:
        from mple.report.comparison import compare, print_comparison, write_comparison_page

        comparison = compare(summary, read_summary(other))
        print_comparison(comparison, console)
        if out is None:
            return
        write_comparison_page(comparison, out)
        page = out
    say(console, f"the page is {page}")


def export_run(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the ledger as CSV.")] = None,
    parquet: Annotated[
        Path | None, typer.Option("--parquet", metavar="FILE", help="Write it as Parquet, with typed columns.")
    ] = None,
) -> None:
    """Write the merged ledger of a finished run, one row for each message and end, for other programs."""
    if csv is None and parquet is None:
        raise ValueError("nothing to write: give --csv FILE, --parquet FILE or both")
    from mple.report.ledger_export import export_ledger

    messages = export_ledger(read_summary(folder), csv=csv, parquet=parquet)
    files = " and ".join(str(path) for path in (csv, parquet) if path is not None)
    echo(f"{messages:,} rows in {files}")
