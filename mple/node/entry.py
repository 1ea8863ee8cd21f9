"""How a node process starts and ends: arguments, configuration, signals, exit code."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TypeVar

from mple import __version__
from mple.exit_codes import ExitCode
from mple.node.coordinator_line import UnreachableError
from mple.plan import read_settings
from mple.rpc import MpleError

S = TypeVar("S")


def run_node(
    program: str,
    verb: str,
    settings_type: type[S],
    body: Callable[[S, threading.Event], ExitCode],
    argv: Sequence[str] | None = None,
) -> int:
    """Run a node's body and turn its end into an exit code.

    The body gets the configuration and an event that SIGTERM or Ctrl-C sets; it returns soon after that.

    Args:
        program: The command's name.
        verb: Its one verb.
        settings_type: Dataclass of its configuration file.
        body: The node.
        argv: Arguments without the program, `sys.argv[1:]` by default.
    """
    parser = argparse.ArgumentParser(prog=program)
    parser.add_argument("--version", action="version", version=f"{program} {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True)
    command = verbs.add_parser(verb, help="run the node until its run has ended")
    command.add_argument("config", type=Path, help="the node's TOML file")
    command.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="overrides")
    arguments = parser.parse_args(argv)

    stop = threading.Event()

    def stopped(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, stopped)
    signal.signal(signal.SIGINT, stopped)
    try:
        code = body(read_settings(settings_type, arguments.config, arguments.overrides), stop)
    except UnreachableError as fault:
        return _end(program, fault, ExitCode.UNREACHABLE)
    except MpleError as fault:
        return _end(program, fault, ExitCode.RUN_FAILED)
    except ValueError as fault:
        return _end(program, fault, ExitCode.BAD_USAGE)
    except Exception as fault:
        return _end(program, fault, ExitCode.INTERNAL)
    return int(code)


def _end(program: str, fault: Exception, code: ExitCode) -> int:
    logger = logging.getLogger(program)
    if logger.hasHandlers() or code is ExitCode.INTERNAL:
        # With its traceback for the log's file: what looks like bad data may be a fault of this program after all.
        logger.error("%s", fault, exc_info=fault)
    print(f"{program}: {fault}", file=sys.stderr)
    return int(code)
