"""`mple data fetch`: a public set, or what a configuration keeps elsewhere, as in a hospital's PACS."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn

from mple.data import DataError, DataSource, default_data_folder
from mple.data.dicomweb.source import DicomWebSource
from mple.data.fetch import fetch_cifar10
from mple.plan import SettingsError
from mple.plan.reader import read_toml, settings_from
from mple.terminal import echo, wide_console

_PUBLIC = "cifar10"


def fetch(
    what: Annotated[str, typer.Argument(help=f"{_PUBLIC}, or a configuration with a [data] section.")],
    to: Annotated[Path | None, typer.Option(help="Folder for its files; by default where kind cifar10 looks.")] = None,
    archive: Annotated[Path | None, typer.Option("--from", help="An archive that was fetched by hand.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Ask a PACS for everything again, and tell what differs.")
    ] = False,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key of [data]; repeat.")
    ] = None,
) -> None:
    """Fetch a public data set, or what a PACS has for a configuration; what is already there is verified and left
    alone. After an interruption the same command goes on where it was."""
    if what == _PUBLIC:
        if check or overrides:
            raise SettingsError(f"--check and --set go with a configuration, not with {_PUBLIC}")
        _fetch_public(to or default_data_folder() / what, archive)
    elif to is not None or archive is not None:
        raise SettingsError(f"--to and --from go with {_PUBLIC}; of a configuration, path in [data] is the folder")
    else:
        _fetch_configured(Path(what), overrides or [], check)


def _fetch_public(folder: Path, archive: Path | None) -> None:
    with _bar(DownloadColumn()) as progress:
        had_to = fetch_cifar10(folder, archive=archive, progress=progress)
    echo(f"{_PUBLIC} is in {folder}, {'fetched and verified' if had_to else 'already whole and verified'}")


def _fetch_configured(config: Path, overrides: list[str], check: bool) -> None:
    data = read_toml(config).get("data")
    if not isinstance(data, dict):
        raise SettingsError(f"{config} has no section [data]")
    source = settings_from(DataSource, data, overrides, base=config.parent, where=f"{config} [data]")
    if not isinstance(source, DicomWebSource):
        raise SettingsError(f'{config} has data of kind = "{source.kind}", which are on this machine already')
    with _bar(MofNCompleteColumn()) as progress:
        if check:
            differing = source.changes(progress)
        else:
            count, labels = source.fetch(progress)
    if check and differing:
        said = "; ".join(differing)
        raise DataError(f"{said}; {source.path} is left as it was: to take all as it is now, remove it and fetch again")
    if check:
        echo(f"{source.path} is what {source.url} has")
    else:
        where = f"labels in {labels}" if labels else f"no labels yet; {source.path}/instances-*.csv names them"
        echo(f"{count} instances are in {source.path}, each with its digest in SHA256SUMS; {where}")


@contextmanager
def _bar(counts: ProgressColumn) -> Iterator[Callable[[str, int, int | None], None]]:
    """A progress bar, where there is a terminal, and what moves it."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), counts)
    console = wide_console()
    with Progress(*columns, transient=True, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda text, done, total: bar.update(task, description=text, completed=done, total=total)
