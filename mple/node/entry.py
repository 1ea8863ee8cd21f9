"""How a node's process starts and ends: command line, configuration, signals, exit code."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from mple import __version__
from mple.disk.scarcity import raise_own_limit, scarcity_end, scarcity_of
from mple.disk.storage_faults import storage_end, storage_fault_of, watched_storage
from mple.exit_codes import ExitCode
from mple.node.ending import exit_code_of, fix_of, run_app, say_fault
from mple.node.logs import log_to_file
from mple.node.retry import StoppedError
from mple.node.signals import stop_on_signals
from mple.node.stop import Stop
from mple.plan import read_settings
from mple.terminal import echo

S = TypeVar("S")
Config = Annotated[Path, typer.Argument(help="The node's TOML file.", show_default=False)]
"""First argument of every verb of a node."""
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
    return run_app(program, node_app(program, verb, settings_type, body), argv)


def node_app(program: str, verb: str, settings_type: type[S], body: Callable[[S, Stop], None]) -> typer.Typer:
    """The command line of a node: `--version`, and the verb that runs it; `run_app` runs it, further verbs may follow.

    Args:
        program: The command's name.
        verb: The one that runs the node.
        settings_type: Dataclass of its configuration file.
        body: The node; see `run_body`.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help="One node of a consortium.")

    def print_version(wanted: bool) -> None:
        if wanted:
            echo(f"{program} {__version__}")
            raise typer.Exit

    shown = typer.Option(False, "--version", callback=print_version, is_eager=True, help="Print the version and end.")

    @app.callback()
    def about(version: bool = shown) -> None:
        """Entered before each verb."""

    @app.command(verb, help="Run the node until its run has ended.")
    def run(config: Config, overrides: Overrides = None) -> int:
        return run_body(program, settings_type, config, overrides, body)

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
    raise_own_limit()
    with stop_on_signals(last=True) as stop, watched_storage(stop.set) as disk:
        settings, fault, code = None, None, ExitCode.DONE
        try:
            settings = read_settings(settings_type, config, overrides or ())
            body(settings, stop)
        except StoppedError:
            code = ExitCode.INTERRUPTED
        except Exception as raised:
            fault, code = raised, exit_code_of(raised)
        full = disk.fault or storage_fault_of(fault)
        if full is not None:
            told = storage_end(full, getattr(settings, "state", Path()))
            return _end(program, told, told.code, full)
        scarce = scarcity_of(fault)
        if scarce is not None:
            return _end(program, scarcity_end(scarce), code, scarce)
        if fault is not None:
            return _end(program, fault, code, fault)
        return int(code)


def _end(program: str, told: Exception, code: ExitCode, cause: Exception) -> int:
    if logging.getLogger().hasHandlers() or code is ExitCode.INTERNAL:
        # With its traceback for the log's file: what looks like bad data may be a fault of this program after all.
        log_to_file("; ".join(filter(None, (str(told), fix_of(told)))), cause)
    say_fault(program, told)
    return int(code)
