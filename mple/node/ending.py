"""How a command ends: the one place where an exception becomes a sentence on stderr, a way out, and an exit code."""

import atexit
import gc
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import typer
from typer.exceptions import TyperException

from mple.disk.private import keep_private
from mple.disk.scarcity import scarcity_end, scarcity_of
from mple.exit_codes import ExitCode, ExitError
from mple.printable import printable_lines
from mple.terminal import printable_output


def run_app(
    program: str,
    app: typer.Typer,
    argv: Sequence[str] | None = None,
    of_files: Mapping[str, Callable[[Sequence[Path]], int]] = MappingProxyType({}),
) -> int:
    """Run the verb that the arguments name and return its exit code; nothing is raised.

    What a user has typed can be wrong in any of its files, so an OSError counts as wrong usage here. Only a fault of
    this program shows its traceback. Files that the process makes from now on are its user's alone.

    Args:
        program: The command's name.
        app: Its verbs; each returns its exit code or None.
        argv: Arguments without the program, `sys.argv[1:]` by default.
        of_files: By verb, what runs it where nothing but files follows. To read them the app would load what checks
            types, 6 MB that a process keeps.
    """
    keep_private()
    # The interpreter's last act is to look through all objects for what refers to nothing any more: 0.7 s with torch.
    atexit.register(gc.freeze)
    with printable_output():
        return _run(program, app, list(sys.argv[1:] if argv is None else argv), of_files)


def _run(
    program: str, app: typer.Typer, args: list[str], of_files: Mapping[str, Callable[[Sequence[Path]], int]]
) -> int:
    try:
        if args[1:] and args[0] in of_files and not any(word.startswith("-") for word in args[1:]):
            code = of_files[args[0]](list(map(Path, args[1:])))
        else:
            code = app(args=args, prog_name=program, standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        return int(ExitCode.INTERRUPTED)
    except TyperException as fault:
        text, where = fault.format_message(), getattr(fault, "ctx", None)
        if text:  # none where help was printed instead, for want of any argument
            fix = "" if where is None else f"see {where.command_path} --help"
            say_fault(program, ExitError(text, ExitCode.BAD_USAGE, fix))
        return int(ExitCode.BAD_USAGE)
    except Exception as fault:
        ending = exit_code_of(fault)
        if isinstance(fault, OSError) and ending is ExitCode.INTERNAL:
            ending = ExitCode.BAD_USAGE
        scarce = scarcity_of(fault)
        if scarce is not None:
            fault = scarcity_end(scarce)
        if ending is ExitCode.INTERNAL:
            traceback.print_exception(fault)
        say_fault(program, fault)
        return int(ending)
    return int(code or ExitCode.DONE)


def exit_code_of(fault: Exception) -> ExitCode:
    """The exit code that tells a script what to do about this fault."""
    # What a help, and a verb that calls nobody, ends without.
    from mple.node.retry import StoppedError, UnreachableError
    from mple.rpc import ErrorCode, MpleError

    if isinstance(fault, StoppedError):
        return ExitCode.INTERRUPTED
    if scarcity_of(fault) is not None:
        return ExitCode.RESOURCES
    if isinstance(fault, ExitError):
        return fault.code
    revoked = isinstance(fault, MpleError) and fault.code is ErrorCode.CERTIFICATE_REVOKED
    if revoked or isinstance(fault, UnreachableError):
        return ExitCode.UNREACHABLE
    if isinstance(fault, MpleError):
        return ExitCode.RUN_FAILED
    return ExitCode.BAD_USAGE if isinstance(fault, ValueError) else ExitCode.INTERNAL


def say_fault(program: str, fault: Exception) -> None:
    """Print on stderr what went wrong and, where it stands apart, the way out in a line of its own."""
    print(f"{program}: {printable_lines(fault)}", file=sys.stderr)
    if fix := fix_of(fault):
        print(f"{program}: fix: {printable_lines(fix)}", file=sys.stderr)


def fix_of(fault: Exception) -> str:
    """The way out, where it stands apart from what went wrong; empty otherwise."""
    if isinstance(fault, ExitError):
        return fault.fix
    from mple.rpc import MpleError

    return fault.fix if isinstance(fault, MpleError) else ""
