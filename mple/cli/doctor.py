"""`mple doctor`: looks at this node and its peers and says what is wrong and what to do."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from mple.doctor import TIMEOUT_S, Examination, Severity, examine_node, examine_one
from mple.exit_codes import ExitCode
from mple.rpc import Role
from mple.terminal import echo, wide_console

_STYLES = {Severity.OK: "green", Severity.WARN: "yellow", Severity.FAULT: "bold red"}


def doctor(
    config: Annotated[Path | None, typer.Argument(help="A node's configuration.")] = None,
    peer: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Look at this peer instead.")] = None,
    tls: Annotated[Path | None, typer.Option(help="With --peer: this node's TLS folder.")] = None,
    role: Annotated[Role | None, typer.Option(help="With --peer: what it must be.")] = None,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds to wait for each answer.")] = TIMEOUT_S,
    as_program: Annotated[bool, typer.Option("--json", help="JSON instead of lines.")] = False,
) -> int:
    """Say what is wrong with a node or with the way to its peers: certificates, ports, clocks, versions, throughput.
    Exit code 0: no fault (warnings may be). 2: a fault of this node. 4: a fault of a peer or on the way to it."""
    if (config is None) == (peer is None) or (peer is None) != (tls is None) or (role is not None and peer is None):
        raise typer.BadParameter("name a node's configuration, or --peer HOST:PORT and --tls FOLDER")
    if timeout_s <= 0:
        raise typer.BadParameter(f"--timeout {timeout_s:g}; needs seconds above 0")
    if config is not None:
        examining = examine_node(config, timeout_s)
    else:
        examining = examine_one(peer or "", role, tls or Path(), timeout_s)
    console = wide_console()
    examined: list[Examination] = []
    for examination in examining:
        examined.append(examination)
        if console.is_terminal and not as_program:
            console.print(table(examination))
        elif not as_program:
            echo(*lines(examination))
    code = _code(examined)
    echo(*(as_json(examined, int(code)).splitlines() if as_program else [verdict(examined)]))
    return int(code)


def _code(examined: list[Examination]) -> ExitCode:
    faults = [one for one in examined if one.severity is Severity.FAULT]
    if any(one.own for one in faults):
        return ExitCode.BAD_USAGE
    return ExitCode.UNREACHABLE if faults else ExitCode.DONE


def lines(examination: Examination) -> list[str]:
    """A heading and a line per finding, its fix below it."""
    rows = _rows(examination)
    return [examination.subject, *(f"  {mark.plain:6}{step:11}{text.plain}" for mark, step, text in rows)]


def table(examination: Examination) -> Table:
    """The same for a terminal: coloured, each column wrapped by itself."""
    shown = Table.grid(padding=(0, 1, 0, 1))
    shown.title, shown.title_style, shown.title_justify = examination.subject, "bold", "left"
    for row in _rows(examination):
        shown.add_row(*row)
    return shown


def _rows(examination: Examination) -> Iterator[tuple[Text, str, Text]]:
    """Severity, step and cause of each finding, then a row with its fix."""
    for one in examination.findings:
        if one.severity is Severity.SKIPPED:
            yield Text(), "", Text(one.cause, "dim")
        else:
            yield Text(one.severity, _STYLES[one.severity]), one.step, Text(one.cause)
        if one.fix:
            yield Text(), "", Text(f"-> {one.fix}", "italic")


def verdict(examinations: Sequence[Examination]) -> str:
    """One sentence on all of it."""
    for severity, words in ((Severity.FAULT, "fault"), (Severity.WARN, "warning")):
        found = sum(one.severity is severity for each in examinations for one in each.findings)
        if found:
            return f"{found} {words}{'s' if found > 1 else ''}"
    return "all is well"


def as_json(examinations: Sequence[Examination], exit_code: int) -> str:
    """The same for programs; keys stay."""
    examined = [{**asdict(each), "severity": each.severity} for each in examinations]
    return json.dumps({"exit_code": exit_code, "examined": examined}, indent=2)
