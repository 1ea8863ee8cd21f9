"""`mple data`: fetch a set, look at any set."""

from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from mple.cli.data_fetch import fetch
from mple.data import SOURCES, DataSource
from mple.data.source import choose_part, read_part
from mple.disk.json_records import read_record, record_to_json, write_record
from mple.plan import RunChoices, SettingsError
from mple.plan.fit import check_dataset, check_images, check_task
from mple.plan.node_settings import SiteMetricSettings
from mple.plan.reader import read_settings, read_toml, settings_from
from mple.terminal import echo, wide_console

app = typer.Typer(no_args_is_help=True, help="Data: fetch them, look at what a site would train on.")
app.command()(fetch)

KindOption = Annotated[str | None, typer.Option("--kind", help=f"Without a configuration: {', '.join(SOURCES)}.")]


@app.command()
def show(
    config: Annotated[Path | None, typer.Argument(help="A configuration with a [data] section.")] = None,
    kind: KindOption = None,
    path: Annotated[Path | None, typer.Option(help="File or folder.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key of [data], as side_px=64; repeat.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a page with some pictures of each class and split.")
    ] = None,
    each: Annotated[int, typer.Option(min=1, max=100, help="Pictures of each class and split in the page.")] = 8,
) -> None:
    """Read a site's images and print their sizes and ranges, how many there are of each class, split and patient, and
    what is odd about them."""
    if page is not None and page.suffix != ".html":
        raise ValueError(f"--page {page}: the page is HTML; let its name end in .html")
    source = _source(config, kind, path, overrides or [])
    part = choose_part(source)
    dataset = read_part(source, part)
    # Tables and templates take a moment to load; a wrong option is told before.
    from mple.pictures.description import described
    from mple.pictures.tables import print_description

    found = described(part, dataset)
    if json:
        echo(*record_to_json(found, indent=2).splitlines())
    else:
        print_description(found, wide_console())
    if page is not None:
        from mple.pictures.page import write_page

        write_page(page, found, dataset, each)
        if not json:
            echo(f"the page is {page}; it shows patients' pictures in the clear: keep it where they are kept")
    shape, choices = dataset.train.shape, _run_choices(config)
    check_dataset(dataset)
    if choices is not None:
        check_images(shape, choices)
        check_task(dataset.task, choices)
    if config is not None and choices is not None and not json:
        from mple.simulate.foresight import foreseen_memory
        from mple.simulate.settings import SimulationSettings

        if line := foreseen_memory(read_settings(SimulationSettings, config)):
            echo(line)


@app.command()
def stats(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the statistics go, as JSON.")],
    config: Annotated[Path | None, typer.Argument(help="A configuration with a [data] section.")] = None,
    kind: KindOption = None,
    path: Annotated[Path | None, typer.Option(help="File or folder.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key of [data], as side_px=64; repeat.")
    ] = None,
    least_count: Annotated[
        int | None,
        typer.Option(min=1, help="What fewer patients contribute to is withheld (by default [metrics] least_count)."),
    ] = None,
) -> None:
    """Write what a consortium can pool to choose normalisation and window: sums over the training pictures, no picture
    and no extreme. Look at the file before it leaves the house."""
    source = _source(config, kind, path, overrides or [])
    part = choose_part(source)
    dataset = read_part(source, part)
    from mple.pictures.statistics import set_statistics

    least_count = _least_count(config) if least_count is None else least_count
    found = set_statistics(source, part, dataset, least_count)
    write_record(out, found)
    cells = [count for one in found.channels for count in one.cells]
    classes = [*found.classes.values()]
    echo(
        f"{out}: sums of {found.pictures:,} training pictures"
        + ("" if found.patients is None else f" of {found.patients:,} patients"),
        f"withheld for fewer than {least_count} {found.counted}: {cells.count(None)} of {len(cells)} cells of levels, "
        f"{classes.count(None)} of {len(classes)} counts of classes",
    )


@app.command()
def pool(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Statistics of all sites.")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Merge the statistics of several sites, and propose the run's normalisation and the sites' window."""
    from mple.pictures.pooling import pooled
    from mple.pictures.statistics import SetStatistics
    from mple.pictures.tables import print_pooled

    found = pooled({str(file): read_record(SetStatistics, file, "ask its site for it again") for file in files})
    if json:
        echo(*record_to_json(found, indent=2).splitlines())
    else:
        print_pooled(found, wide_console())


def _run_choices(config: Path | None) -> RunChoices | None:
    """What a simulation's configuration decides about the run; a site's, or `[data]` alone, decides nothing."""
    raw = {} if config is None else sections(config, None, None)
    known = {field.name: raw[field.name] for field in fields(RunChoices) if field.name in raw}
    if config is None or "vault" in raw or not (known or "sites" in raw):
        return None
    return settings_from(RunChoices, known, where=str(config))


def _least_count(config: Path | None) -> int:
    """A site's own, where a site's configuration is named."""
    raw = {} if config is None else sections(config, None, None)
    known = raw.get("metrics", {}) if "vault" in raw else {}
    return settings_from(SiteMetricSettings, known, where=f"{config} [metrics]").least_count


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
