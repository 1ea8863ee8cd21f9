"""The umbrella command. A fault that the user can mend is a sentence on stderr and an exit code, never a traceback."""

from collections.abc import Sequence

import typer

from mple import __version__
from mple.cli import attack, audit, bench, data, doctor, keys, model, pki, predict, privacy, report, run
from mple.cli.plugins import add_plugins
from mple.node import run_app
from mple.terminal import echo

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Hospitals train one network on morphed images: simulate, deploy, measure.",
)
app.add_typer(data.app, name="data")
app.add_typer(pki.app, name="pki")
app.add_typer(keys.app, name="keys")
app.add_typer(audit.app, name="audit")
app.add_typer(model.app, name="model")
app.add_typer(privacy.app, name="privacy")
app.command("doctor")(doctor.doctor)
app.command("simulate")(run.simulate_run)
app.command("report")(report.report_run)
app.command("export")(report.export_run)
app.command("plain")(run.train_plain_run)
app.command("attack")(attack.attack)
app.command("bench", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(bench.bench)
app.add_typer(predict.app)
add_plugins(app)


@app.callback(invoke_without_command=True)
def about(version: bool = typer.Option(False, "--version", help="Print the version and end.")) -> None:
    """Entered before each verb."""
    if version:
        echo(f"mple {__version__}")
        raise typer.Exit


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_app("mple", app, argv)
