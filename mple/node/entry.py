"""How a node process starts and ends: arguments, configuration, signals, exit code, last audit line."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar

from mple import __version__
from mple.audit import audit, tell_refusals
from mple.disk.storage_faults import noted_storage_fault, storage_fault_of, storage_sentence, watch_storage
from mple.exit_codes import ExitCode
from mple.node.logs import log_to_file
from mple.node.retry import UnreachableError
from mple.node.stop import Stop
from mple.plan import read_settings
from mple.rpc import ErrorCode, MpleError

S = TypeVar("S")


@dataclass(frozen=True, kw_only=True, slots=True)
class Verb(Generic[S]):
    """One verb of a node's command: what it reads and what it does."""

    name: str
    about: str
    """One line for the command's help."""
    settings_type: type[S]
    """Dataclass of the configuration file, the verb's first argument."""
    body: Callable[[S, argparse.Namespace, Stop], ExitCode]
    """Gets the configuration, all parsed arguments, and an event that SIGTERM or Ctrl-C sets; returns soon after it."""
    add_arguments: Callable[[argparse.ArgumentParser], None] | None = None
    """Declares arguments of the verb's own."""


def run_node(
    program: str,
    verb: str,
    settings_type: type[S],
    body: Callable[[S, Stop], ExitCode],
    argv: Sequence[str] | None = None,
) -> int:
    """Run the body of a node whose command has one verb; see `run_verbs`.

    Args:
        program: The command's name.
        verb: Its one verb.
        settings_type: Dataclass of its configuration file.
        body: The node.
        argv: Arguments without the program, `sys.argv[1:]` by default.
    """
    return run_verbs(program, [node_verb(verb, settings_type, body)], argv)


def node_verb(name: str, settings_type: type[S], body: Callable[[S, Stop], ExitCode]) -> Verb[S]:
    """The verb that runs a node: it has no arguments but its configuration."""
    return Verb(
        name=name,
        about="run the node until its run has ended",
        settings_type=settings_type,
        body=lambda settings, _arguments, stop: body(settings, stop),
    )


def run_verbs(program: str, verbs: Sequence[Verb[Any]], argv: Sequence[str] | None = None) -> int:
    """Run the verb that the arguments name and turn its end into an exit code.

    Every verb takes a configuration file and `--set SECTION.KEY=VALUE`.

    Args:
        program: The command's name.
        verbs: Its verbs.
        argv: Arguments without the program, `sys.argv[1:]` by default.
    """
    arguments = _parser(program, verbs).parse_args(argv)
    chosen = next(verb for verb in verbs if verb.name == arguments.verb)
    stop = Stop()

    def stopped(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, stopped)
    signal.signal(signal.SIGINT, stopped)
    watch_storage(stop.set)
    settings, fault = None, None
    try:
        settings = read_settings(chosen.settings_type, arguments.config, arguments.overrides)
        code = chosen.body(settings, arguments, stop)
        _audit_end(chosen.name, code)
    except Exception as raised:
        fault = raised
        code = _code_of(fault)
    full = noted_storage_fault() or storage_fault_of(fault)
    if full is not None:
        return _end(program, full, ExitCode.STORAGE, storage_sentence(full, getattr(settings, "state", Path())))
    if fault is not None:
        code = _end(program, fault, code, str(fault))
        try:
            _audit_end(chosen.name, code)
        except OSError as unaudited:
            return _end(program, unaudited, ExitCode.INTERNAL, str(unaudited))
    return int(code)


class _IntermixedParser(argparse.ArgumentParser):
    """Takes options before, between and behind other arguments, which argparse's verbs don't by themselves."""

    _mixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._mixing:  # parse_known_intermixed_args calls this
            return super().parse_known_args(args, namespace)
        self._mixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._mixing = False


def _parser(program: str, verbs: Sequence[Verb[Any]]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program)
    parser.add_argument("--version", action="version", version=f"{program} {__version__}")
    choices = parser.add_subparsers(dest="verb", required=True, parser_class=_IntermixedParser)
    for verb in verbs:
        command = choices.add_parser(verb.name, help=verb.about, description=verb.about)
        command.add_argument("config", type=Path, help="the node's TOML file")
        command.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="overrides")
        if verb.add_arguments is not None:
            verb.add_arguments(command)
    return parser


def _code_of(fault: Exception) -> ExitCode:
    revoked = isinstance(fault, MpleError) and fault.code is ErrorCode.CERTIFICATE_REVOKED
    if revoked or isinstance(fault, UnreachableError):
        return ExitCode.UNREACHABLE
    if isinstance(fault, MpleError):
        return ExitCode.RUN_FAILED
    return ExitCode.BAD_USAGE if isinstance(fault, ValueError) else ExitCode.INTERNAL


def _audit_end(verb: str, code: ExitCode) -> None:
    tell_refusals()
    audit("local", "node_stop", "ok" if code is ExitCode.DONE else code.name, verb=verb, exit_code=int(code))


def _end(program: str, fault: Exception, code: ExitCode, sentence: str) -> ExitCode:
    logger = logging.getLogger(program)
    if logger.hasHandlers() or code is ExitCode.INTERNAL:
        # With its traceback for the log's file: what looks like bad data may be a fault of this program after all.
        log_to_file(logger, sentence, fault)
    print(f"{program}: {sentence}", file=sys.stderr)
    return code
