"""How a node's process starts and ends: command line, configuration, signals, exit code. What a node lives by is loaded
by the verb that runs it: the help waits for no more than the command line takes."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from mple import __version__
from mple.node.ending import run_app, say_fault
from mple.node.signals import stop_on_signals
from mple.node.stop import Stop
from mple.terminal import echo

S = TypeVar("S")
Config = Annotated[Path, typer.Argument(help="The node's TOML file.", show_default=False)]
"""First argument of every verb of a node."""
Configs = Annotated[list[Path], typer.Argument(help="TOML files, one a node.", show_default=False)]
"""The same where one process may hold several."""
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Replace a setting.")]
"""Option of every verb of a node; may be repeated."""


def run_node(
    program: str, verb: str, settings_type: type[S], body: Callable[[S, Stop], None], argv: Sequence[str] | None = None
) -> int:
    """Run the command of a node that has one verb, and return its exit code; see `node_app`.

    Args:
        program: The command's name.
        verb: Its one verb.
        settings_type: Dataclass of its configuration file.
        body: The node.
        argv: Arguments without the program, `sys.argv[1:]` by default.
    """
    one = functools.partial(run_body, program, settings_type, body=body)
    return run_app(program, node_app(program, verb, one), argv)


def node_app(
    program: str,
    verb: str,
    alone: Callable[[Path, Sequence[str]], int],
    several: Callable[[Sequence[Path], Sequence[str]], int] | None = None,
) -> typer.Typer:
    """The command line of a node: `--version`, and the verb that runs it; `run_app` runs it, further verbs may follow.

    Args:
        program: The command's name.
        verb: The one that runs the node.
        alone: Runs it by its file and overrides, as `run_body`.
        several: Runs several nodes in this process by their files and overrides; None where there can be only one.
    """
    app = typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help="One node of a consortium."
    )

    def print_version(wanted: bool) -> None:
        if wanted:
            echo(f"{program} {__version__}")
            raise typer.Exit

    shown = typer.Option(False, "--version", callback=print_version, is_eager=True, help="Print the version and end.")

    @app.callback()
    def about(version: bool = shown) -> None:
        """Entered before each verb."""

    def one(config: Config, overrides: Overrides = None) -> int:
        return alone(config, overrides or ())

    def any_number(configs: Configs, overrides: Overrides = None) -> int:
        return one(configs[0], overrides) if several is None or len(configs) == 1 else several(configs, overrides or ())

    told = "Run the node until its run has ended" + (", or several in one process." if several else ".")
    app.command(verb, help=told)(any_number if several else one)
    return app


def run_body(
    program: str, settings_type: type[S], config: Path, overrides: Sequence[str] | None, body: Callable[[S, Stop], None]
) -> int:
    """Run one verb of a node as all that its process does from here on, and turn its end into an exit code.

    SIGTERM, Ctrl-C and SIGHUP ask it to end, see `stop_on_signals`; so does a fault of the disk.

    Args:
        program: The command's name.
        settings_type: Dataclass of the configuration file.
        config: That file.
        overrides: Settings that replace the file's, `SECTION.KEY=VALUE`.
        body: Gets configuration and wish to end, after which it soon raises `StoppedError`; returns when all is done.
    """
    from mple.disk.scarcity import raise_own_limit
    from mple.node.life import live
    from mple.plan import read_settings

    raise_own_limit()
    with stop_on_signals(last=True) as stop:
        ending = live(lambda: read_settings(settings_type, config, overrides or ()), body, stop)
        if ending.told is not None:
            say_fault(program, ending.told)
        return int(ending.code)
