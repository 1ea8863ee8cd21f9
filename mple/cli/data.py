"""`mple data`: fetch a public set, look at any set."""

from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from mple.data import SOURCES, Dataset, DataSource, default_data_folder, fetch_cifar10, open_source
from mple.data.images import PatientSplit, repeated_images
from mple.plan import RunChoices, SettingsError
from mple.plan.fit import check_any_run, check_images
from mple.plan.reader import read_toml, settings_from
from mple.printable import printable
from mple.terminal import echo, wide_console

app = typer.Typer(no_args_is_help=True, help="Data: fetch a public set, look at what a site would train on.")

_PATIENTS = {
    PatientSplit.UNKNOWN: "unknown, the pictures do not say whose they are; one patient may be in training and test",
    PatientSplit.APART: "none is in training and test",
    PatientSplit.SHARED: "some are in training and test",
}
KindOption = Annotated[str | None, typer.Option("--kind", help=f"Without a configuration: {', '.join(SOURCES)}.")]


class PublicSet(StrEnum):
    """Sets that can be fetched."""

    CIFAR10 = "cifar10"


@app.command()
def fetch(
    name: Annotated[PublicSet, typer.Argument(help="Which set.")],
    to: Annotated[Path | None, typer.Option(help="Folder for its files; by default where kind cifar10 looks.")] = None,
    archive: Annotated[Path | None, typer.Option("--from", help="An archive that was fetched by hand.")] = None,
) -> None:
    """Fetch a public data set and verify it; a folder that is already whole is left alone."""
    folder = to or default_data_folder() / name.value
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    with Progress(*columns, transient=True, console=wide_console()) as bar:
        task = bar.add_task("starting", total=None)

        def progress(text: str, done: int, total: int | None) -> None:
            bar.update(task, description=text, completed=done, total=total)

        had_to = fetch_cifar10(folder, archive=archive, progress=progress)
    echo(f"{name.value} is in {folder}, {'fetched and verified' if had_to else 'already whole and verified'}")


@app.command()
def show(
    config: Annotated[Path | None, typer.Argument(help="A configuration with a [data] section.")] = None,
    kind: KindOption = None,
    path: Annotated[Path | None, typer.Option(help="File or folder.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key of [data], as side_px=64; repeat.")
    ] = None,
) -> None:
    """Read a site's images and print their shape, how many there are of each class, and what is odd about them."""
    dataset = open_source(_source(config, kind, path, overrides or []))
    echo(*describe(dataset))
    shape, choices = dataset.train.shape, _run_choices(config)
    check_any_run(shape, classes=len(dataset.classes), train=len(dataset.train), test=len(dataset.test))
    if choices is not None:
        check_images(shape, choices)


def describe(dataset: Dataset) -> list[str]:
    """Name, image shape, a table of classes with their counts in each split, and what else to know of it."""
    shape, splits = dataset.train.shape, (dataset.train, dataset.test)
    counts = [np.bincount(split.labels, minlength=len(dataset.classes)) for split in splits]
    rows = [("class", "train", "test")]
    rows += [
        (printable(name), str(train), str(test)) for name, train, test in zip(dataset.classes, *counts, strict=True)
    ]
    rows.append(("all", str(len(dataset.train)), str(len(dataset.test))))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"{dataset.name}: {shape.channels}x{shape.height}x{shape.width}, {len(dataset.classes)} classes"]
    lines += [f"{a.ljust(widths[0])}  {b.rjust(widths[1])}  {c.rjust(widths[2])}" for a, b, c in rows]
    lines += [f"patients: {_PATIENTS[dataset.patients]}"]
    repeated = repeated_images(dataset)
    found = [f"test pictures that are training pictures, too, to the last bit: {repeated}"] if repeated else []
    return [*lines, *dataset.notes, *found]


def _run_choices(config: Path | None) -> RunChoices | None:
    """What a simulation's configuration decides about the run; a site's decides nothing."""
    raw = {} if config is None else sections(config, None, None)
    if config is None or "vault" in raw:
        return None
    known = {field.name: raw[field.name] for field in fields(RunChoices) if field.name in raw}
    return settings_from(RunChoices, known, where=str(config))


def _source(config: Path | None, kind: str | None, path: Path | None, overrides: list[str]) -> DataSource:
    if config is not None and path is not None and kind is None:
        raise SettingsError(f"--path {path} goes with --kind; with a configuration write --set path={path}")
    data = sections(config, kind, path)["data"]
    if config is None:
        return settings_from(DataSource, data, overrides, where="options")
    return settings_from(DataSource, data, overrides, base=config.parent, where=f"{config} [data]")


def sections(config: Path | None, kind: str | None, path: Path | None) -> dict[str, dict[str, object]]:
    """What a configuration has, `data` among it, or a `data` section of options.

    Raises SettingsError: both or neither were given, or the file can't be read or has no such section.
    """
    if (config is None) == (kind is None) or (config is not None and path is not None):
        raise SettingsError("name a configuration file, or --kind and --path")
    if config is None:
        return {"data": {"kind": kind} if path is None else {"kind": kind, "path": str(path)}}
    raw = read_toml(config)
    if not isinstance(raw.get("data"), dict):
        raise SettingsError(f"{config} has no section [data]")
    return raw
