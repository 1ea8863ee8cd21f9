"""The tables and sentences of `mple data show` and `mple data pool`, which fit into 80 columns."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from mple.data.images import PatientSplit
from mple.pictures.description import Description
from mple.pictures.pooling import Pooled
from mple.report.tables import say, table_of

_PATIENTS = {
    PatientSplit.UNKNOWN: "unknown, the pictures do not say whose they are; one patient may be in several splits",
    PatientSplit.APART: "none of training is in validation or test",
    PatientSplit.SHARED: "some of training are in validation or test",
}
_REPEATED = {
    "val": "validation pictures that are training",
    "test": "test pictures that are training or validation",
}


def print_description(found: Description, console: Console) -> None:
    """Name and shape, a table each of pictures, of patients and of levels, and what else to know."""
    what = "labels, several to a picture" if found.several else "classes"
    say(console, f"{found.name}: {found.channels}x{found.height}x{found.width}, {len(found.classes)} {what}")
    for title, table in _tables(found):
        _print(console, title, table)
    console.print()
    for sentence in _sentences(found):
        say(console, sentence)


def print_pooled(found: Pooled, console: Console) -> None:
    """What several sites' statistics come to, and the lines for the configurations."""
    say(console, f"{found.pictures:,} training pictures in {found.files} file{'s' * (found.files > 1)}")
    numbers = ["mean", "std", "p5", "p95", "withheld"]
    channels = table_of("", ["channel"], numbers)
    for name, one in zip(_channel_names(len(found.channels)), found.channels, strict=True):
        percentiles = [f"{span.low:g} to {span.high:g}" for span in (one.p5, one.p95)]
        channels.add_row(name, f"{one.mean:.4f}", f"{one.std:.4f}", *percentiles, f"{100 * one.withheld:.2f} %")
    _print(console, "pixels from 0 to 1; percentiles in levels from 0 to 255", channels)
    classes = table_of("", ["class"], ["pictures", "sites that withhold it"])
    for name, count in found.classes.items():
        classes.add_row(name, f"{count.pictures:,}", f"{count.silent}")
    _print(console, "pictures of each class", classes)
    if found.stored:
        stored = table_of("", ["share"], ["from", "to"])
        for name, span in found.stored.items():
            stored.add_row(name, f"{span.low:,.4g}", f"{span.high:,.4g}")
        _print(console, "values before a window (Hounsfield units of a CT)", stored)
    console.print()
    for sentence in found.notes:
        say(console, sentence)
    say(console, "for the run's file:")
    for line in found.normalisation.splitlines():
        say(console, line)
    if found.window:
        say(console, "for the sites' [data], if one window is to hold for all files (from p5 to p95):")
        say(console, found.window)


def _print(console: Console, title: str, table: Table) -> None:
    console.print()
    say(console, title)
    console.print(table)


def _tables(found: Description) -> Iterator[tuple[str, Table]]:
    word = "label" if found.several else "class"
    title = "pictures with each label" if found.several else "pictures of each class"
    pictures = _counts(word, found, [(split.name, split.by_class) for split in found.splits])
    pictures.add_row("all", *(f"{split.pictures:,}" for split in found.splits))
    yield title, pictures
    unknown = [(split.name, split.unknown or ()) for split in found.splits]
    if any(sum(counts) for _, counts in unknown):
        yield "pictures of which nobody knows it", _counts(word, found, unknown)
    if all(split.patients for split in found.splits):
        yield f"patients with pictures of each {word}", _patients(word, found)
    yield "levels of the training pictures, 0 to 255", _levels(found)


def _counts(word: str, found: Description, columns: Sequence[tuple[str, Sequence[int]]]) -> Table:
    table = table_of("", [word], [name for name, _ in columns])
    table.columns[0].overflow = "fold"
    for name, *counts in zip(found.classes, *(counts for _, counts in columns), strict=True):
        table.add_row(name, *(f"{count:,}" for count in counts))
    return table


def _patients(word: str, found: Description) -> Table:
    columns = [(split.name, split.patients) for split in found.splits if split.patients]
    table = _counts(word, found, [(n, one.by_class) for n, one in columns])
    table.add_row("all", *(f"{one.patients:,}" for _, one in columns))
    spans = (
        f"{one.median_pictures:g} ({one.fewest_pictures:,} to {one.most_pictures:,})" if one.patients else "-"
        for _, one in columns
    )
    table.add_row("pictures of a patient", *spans)
    return table


def _levels(found: Description) -> Table:
    numbers = ["least", "p5", "mean", "p95", "most", "deviation"]
    table = table_of("", ["channel"], numbers)
    for name, one in zip(_channel_names(found.channels), found.levels, strict=True):
        table.add_row(name, f"{one.least}", f"{one.p5}", f"{one.mean:.1f}", f"{one.p95}", f"{one.most}",
                      f"{one.deviation:.1f}")  # fmt: skip
    return table


def _channel_names(channels: int) -> Sequence[str]:
    return {1: ["grey"], 3: ["red", "green", "blue"]}.get(channels, [str(number) for number in range(channels)])


def _sentences(found: Description) -> Iterator[str]:
    if found.files is not None:
        yield _file_sentence(found)
    yield f"patients: {_PATIENTS[found.patients]}"
    yield from found.notes
    for split, count in found.repeated.items():
        yield f"{_REPEATED[split]} pictures, too, to the last bit: {count}"


def _file_sentence(found: Description) -> str:
    files = found.files
    assert files is not None
    if files.different == 1:
        size = f"{files.files:,} files of {files.widest} x {files.highest} pixels (width x height)"
    else:
        size = (
            f"{files.files:,} files of {files.different:,} sizes, {files.narrowest} to {files.widest} pixels wide and "
            f"{files.lowest} to {files.highest} high"
        )
    if (files.narrowest, files.widest, files.lowest, files.highest) == 2 * (found.width,) + 2 * (found.height,):
        return f"size: {size}"
    return f"size: {size}; each is resized to {found.width} x {found.height}, whatever its aspect ratio"
