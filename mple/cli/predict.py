"""`mple predict`: becomes `mple-provider predict`, since only a site's own program holds its key.

Mounted by `app.add_typer(predict.app)`, without a name.
"""

import os

import typer

from mple.simulate.children import command

app = typer.Typer()


@app.command(
    "predict",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    help="Class probabilities of pictures, by a site's configuration: mple predict CONFIG IMAGE... (see --help).",
)
def predict(context: typer.Context) -> None:
    """Go on as `mple-provider predict` with the same arguments: the same process, so the same signals and exit code."""
    arguments = [*command("mple-provider"), "predict", *context.args]
    os.execv(arguments[0], arguments)  # noqa: S606
