"""The options of `mple predict` and `mple-provider predict`, as they are typed."""

from pathlib import Path
from typing import Annotated

import typer

Images = Annotated[list[Path] | None, typer.Argument(metavar="IMAGE", help="Picture files, or folders of them.")]
Labels = Annotated[
    Path | None, typer.Option(metavar="FILE.csv", help="Instead: the files of a label table, and scores.")
]
Test = Annotated[int | None, typer.Option(metavar="N", help="Instead: the site's first N test images, and scores.")]
Resize = Annotated[bool, typer.Option("--resize", help="Resize pictures that have not the network's size.")]
Top = Annotated[int | None, typer.Option(metavar="K", help="Likeliest classes to show (default 3, in JSON all).")]
Every = Annotated[bool, typer.Option("--all", help="Show all classes, with bars.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Csv = Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Write a table of all probabilities as well.")]
Page = Annotated[
    Path | None,
    typer.Option(metavar="FILE.html", help="Write a page of the pictures, probabilities and what speaks for them."),
]
