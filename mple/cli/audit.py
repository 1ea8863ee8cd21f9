"""`mple audit`: prove that a node's audit trail is as it was written, and read it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from mple.audit import FILE_NAME, read_entries
from mple.audit import verify as verify_trail
from mple.disk.bounded import require_within
from mple.exit_codes import ExitCode
from mple.printable import printable
from mple.terminal import echo

app = typer.Typer(no_args_is_help=True, help="Audit trails: who did what at a node, in lines that seal each other.")
_MOST_SHOWN = 2_000


@app.command()
def verify(
    paths: Annotated[list[Path], typer.Argument(help="Trails (audit.jsonl), or folders with trails somewhere within.")],
    head: Annotated[str | None, typer.Option(help="SHA-256 of a line that the trail must still contain.")] = None,
) -> int:
    """Check trails; the first bad line of each is named. Ends with code 3 when one is not sound."""
    files = [file for path in paths for file in _trails(path)]
    if head is not None and len(files) != 1:
        raise ValueError(f"--head is of one trail; {len(files)} were found")
    verdicts = [verify_trail(file, head) for file in files]
    for one in verdicts:
        found = "sound" if one.sound else f"line {one.line} {one.damage} ({one.why})"
        echo(f"{one.path}: {found}, {one.lines} lines, head {one.head}")
    return int(ExitCode.DONE if all(one.sound for one in verdicts) else ExitCode.RUN_FAILED)


@app.command()
def show(
    path: Annotated[Path, typer.Argument(help="A trail, or the one folder's that has it.")],
    who: Annotated[str | None, typer.Option(help='Only of this party, as "site/north" or "local".')] = None,
    what: Annotated[str | None, typer.Option(help='Only events of this kind, as "refused".')] = None,
) -> None:
    """Print a trail for people: time, who, what, result and facts."""
    for file in _trails(path):
        for entry in read_entries(file):
            if (who is None or entry.who == who) and (what is None or entry.what == what):
                facts = " ".join(f"{name}={fact}" for name, fact in entry.facts.items())
                line = f"{entry.sequence:>5} {entry.time[:19]}Z {entry.who} {entry.what} {entry.result} {facts}"
                echo(printable(line.rstrip(), _MOST_SHOWN))


def _trails(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    require_within(path)  # somebody else may have made it
    found = sorted(path.rglob(FILE_NAME))
    if not found:
        raise ValueError(f"no {FILE_NAME} in {path} or below")
    yield from found
