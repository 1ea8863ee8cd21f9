"""`mple predict`: hands over to `mple-provider predict`, since only a site's own program holds its key.

Mounted by `app.add_typer(predict.app)`, without a name.
"""

from __future__ import annotations

import signal
import subprocess
from types import FrameType

import typer

from mple.simulate.children import command

app = typer.Typer()


@app.command(
    "predict",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    help="Class probabilities of pictures, by a site's configuration: mple predict CONFIG IMAGE... (see --help).",
)
def predict(context: typer.Context) -> int:
    """Run `mple-provider predict` with the same arguments and return its exit code."""
    with subprocess.Popen([*command("mple-provider"), "predict", *context.args]) as child:  # noqa: S603

        def pass_on(number: int, _frame: FrameType | None) -> None:
            child.send_signal(number)

        # Ctrl-C reaches the child by itself; it ends and is waited for. SIGTERM is sent to this process alone.
        before = {signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN)}
        before[signal.SIGTERM] = signal.signal(signal.SIGTERM, pass_on)
        try:
            code = child.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    return 128 - code if code < 0 else code
