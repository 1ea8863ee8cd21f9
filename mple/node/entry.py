"""How a node's process starts and ends: command line, configuration, signals, exit code, last audit line."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from mple import __version__
from mple.audit import audit, tell_refusals
from mple.disk.storage_faults import noted_storage_fault, storage_end, storage_fault_of, watch_storage
from mple.exit_codes import ExitCode
from mple.node.ending import exit_code_of, fix_of, run_app, say_fault
from mple.node.logs import log_to_file
from mple.node.signals import stop_on_signals
from mple.node.stop import Stop
from mple.plan import read_settings

S = TypeVar("S")
Config = Annotated[Path, typer.Argument(help="The node's TOML file.", show_default=False)]
"""First argument of every verb of a node."""
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Replace a setting.")]
"""Option of every verb of a node; may be repeated."""


def run_node(
    program: str,
    verb: str,
    settings_type: type[S],
    body: Callable[[S, Stop], ExitCode],
    argv: Sequence[str] | None = None,
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


def node_app(program: str, verb: str, settings_type: type[S], body: Callable[[S, Stop], ExitCode]) -> typer.Typer:
    """The command line of a node: `--version`, and the verb that runs it; `run_app` runs it, further verbs may follow.

    Args:
        program: The command's name.
        verb: The one that runs the node.
        settings_type: Dataclass of its configuration file.
        body: The node; gets its configuration and the wish to end, after which it returns soon.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help="One node of a consortium.")

    def print_version(wanted: bool) -> None:
        if wanted:
            typer.echo(f"{program} {__version__}")
            raise typer.Exit

    shown = typer.Option(False, "--version", callback=print_version, is_eager=True, help="Print the version and end.")

    @app.callback()
    def about(version: bool = shown) -> None:
        """Entered before each verb."""

    @app.command(verb, help="Run the node until its run has ended.")
    def run(config: Config, overrides: Overrides = None) -> int:
        return run_body(program, verb, settings_type, config, overrides, body)

    return app


def run_body(
    program: str,
    verb: str,
    settings_type: type[S],
    config: Path,
    overrides: Sequence[str] | None,
    body: Callable[[S, Stop], ExitCode],
) -> int:
    """Run one verb of a node as all that its process does from here on, and turn its end into an exit code.

    SIGTERM, Ctrl-C and SIGHUP ask it to end, see `stop_on_signals`; so does a fault of the disk.

    Args:
        program: The command's name.
        verb: For the audit trail.
        settings_type: Dataclass of the configuration file.
        config: That file.
        overrides: Settings that replace the file's, `SECTION.KEY=VALUE`.
        body: Gets configuration and wish to end.
    """
    with stop_on_signals(last=True) as stop:
        watch_storage(stop.set)
        settings, fault = None, None
        try:
            settings = read_settings(settings_type, config, overrides or ())
            code = body(settings, stop)
            _audit_end(verb, code)
        except Exception as raised:
            fault, code = raised, exit_code_of(raised)
        full = noted_storage_fault() or storage_fault_of(fault)
        if full is not None:
            told = storage_end(full, getattr(settings, "state", Path()))
            return _end(program, told, told.code, full)
        if fault is not None:
            _end(program, fault, code, fault)
            try:
                _audit_end(verb, code)
            except OSError as unaudited:
                return _end(program, unaudited, ExitCode.INTERNAL, unaudited)
        return int(code)


def _audit_end(verb: str, code: ExitCode) -> None:
    tell_refusals()
    audit("local", "node_stop", "ok" if code is ExitCode.DONE else code.name, verb=verb, exit_code=int(code))


def _end(program: str, told: Exception, code: ExitCode, cause: Exception) -> int:
    logger = logging.getLogger(program)
    if logger.hasHandlers() or code is ExitCode.INTERNAL:
        # With its traceback for the log's file: what looks like bad data may be a fault of this program after all.
        log_to_file(logger, "; ".join(filter(None, (str(told), fix_of(told)))), cause)
    say_fault(program, told)
    return int(code)
