"""Statistics of several sites as one: what the pictures of all would have given, and the settings that follow.

Mean and deviation are exact. Percentiles are known as far as the sites' cells say: each is given from a lowest to a
highest value, wherever the values lie that sites have withheld.

Legend: F files, C channels, K cells.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mple.pictures.levels import level_below
from mple.pictures.statistics import LEVEL_CELLS, WIDTH, SetStatistics
from mple.pictures.value_grid import CELLS, bounds_of

SHARES = {"p5": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Where a percentile lies."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PooledChannel:
    """One channel of all sites' training pictures."""

    mean: float
    std: float
    """Of pixels from 0 to 1, as `[normalisation]` counts."""
    p5: Span
    p95: Span
    """Levels from 0 to 255."""
    withheld: float
    """Share of values in cells that sites have withheld."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PooledClass:
    """Pictures of one class, or with one label, at all sites."""

    pictures: int
    """As far as sites tell."""
    silent: int
    """Sites that withhold their count."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pooled:
    """What several sites' files come to."""

    files: int
    pictures: int
    channels: tuple[PooledChannel, ...]
    classes: Mapping[str, PooledClass]
    stored: Mapping[str, Span]
    """Percentiles of values before a window, by name; empty where no site has such."""
    notes: tuple[str, ...]

    @property
    def normalisation(self) -> str:
        """The section of a run's file that makes pixels of mean 0 and deviation 1."""
        mean, std = (
            ", ".join(f"{getattr(one, name):.6f}" for one in self.channels) for name in ("mean", "std")
        )  # fmt: skip
        return f"[normalisation]\nmean = [{mean}]\nstd = [{std}]"

    @property
    def window(self) -> str:
        """The line of `[data]` that shows what lies from p5 to p95; empty where no site has values."""
        if not self.stored:
            return ""
        low, high = self.stored["p5"].low, self.stored["p95"].high
        return f"window = [{(low + high) / 2:.6g}, {high - low:.6g}]" if high > low else ""


def pooled(files: Mapping[str, SetStatistics]) -> Pooled:
    """Merge files, by their names.

    Guarantees: counts, means and deviations are those of all pictures together, whatever sites withhold.

    Raises ValueError: two files are one, their channels or the kinds of their values differ, or there is none.
    """
    _refuse_strangers(files)
    sets = [*files.values()]
    names = dict.fromkeys(name for one in sets for name in one.classes)
    return Pooled(
        files=len(sets),
        pictures=sum(one.pictures for one in sets),
        channels=tuple(_channel(sets, number) for number in range(len(sets[0].channels))),
        classes={name: _class([one.classes.get(name, 0) for one in sets]) for name in names},
        stored=_stored(sets),
        notes=tuple(_notes(files)),
    )


def _refuse_strangers(files: Mapping[str, SetStatistics]) -> None:
    if not files:
        raise ValueError("no file to pool; name those of all sites")
    (first, one), *others = files.items()
    for name, other in others:
        if len(other.channels) != len(one.channels):
            raise ValueError(
                f"{first} is of {len(one.channels)} channels, {name} of {len(other.channels)}; set channels in the "
                "sites' [data] alike and make the statistics again"
            )
    seen: dict[tuple[object, ...], str] = {}
    for name, one in files.items():
        earlier = seen.setdefault((one.pictures, one.channels), name)
        if earlier != name:
            raise ValueError(f"{earlier} and {name} are of the same pictures, which would count twice; leave one out")


def _channel(sets: Sequence[SetStatistics], number: int) -> PooledChannel:
    channels = [one.channels[number] for one in sets]
    values = sum(one.values for one in sets)
    # Whole numbers of any size: the difference of two nearly equal ones loses nothing.
    total, squares = sum(one.total for one in channels), sum(one.squares for one in channels)
    deviation = (values * squares - total * total) ** 0.5 / values
    low_K, high_K = np.zeros(LEVEL_CELLS, np.int64), np.zeros(LEVEL_CELLS, np.int64)
    withheld = 0
    for one, channel in zip(sets, channels, strict=True):
        withheld += _add_cells(low_K, high_K, dict(enumerate(channel.cells)), one.values)
    p5, p95 = (
        Span(low=float(WIDTH * level_below(low_K, share)), high=float(WIDTH * level_below(high_K, share) + WIDTH - 1))
        for share in (SHARES["p5"], SHARES["p95"])
    )
    return PooledChannel(
        mean=total / values / 255, std=deviation / 255, p5=p5, p95=p95, withheld=withheld / values
    )  # fmt: skip


def _add_cells(
    low_K: NDArray[np.int64], high_K: NDArray[np.int64], cells: Mapping[int, int | None], values: int
) -> int:
    """Add one site's counts; what it withholds goes into the lowest and into the highest place that it can have.
    Returns how many values that is."""
    told = {cell: count for cell, count in cells.items() if count is not None}
    for cell, count in told.items():
        low_K[cell] += count
        high_K[cell] += count
    hidden = [cell for cell in cells if cell not in told]
    rest = values - sum(told.values())
    if hidden:
        low_K[min(hidden)] += rest
        high_K[max(hidden)] += rest
    return rest


def _class(counts: Iterable[int | None]) -> PooledClass:
    told = [*counts]
    return PooledClass(pictures=sum(filter(None, told)), silent=told.count(None))


def _stored(sets: Sequence[SetStatistics]) -> dict[str, Span]:
    low_K, high_K = np.zeros(CELLS, np.int64), np.zeros(CELLS, np.int64)
    for one in sets:
        if one.stored is not None:
            _add_cells(low_K, high_K, one.stored.cells, one.stored.values)
    if not low_K.any():
        return {}
    return {
        name: Span(low=bounds_of(level_below(low_K, share))[0], high=bounds_of(level_below(high_K, share))[1])
        for name, share in SHARES.items()
    }


def _notes(files: Mapping[str, SetStatistics]) -> Iterable[str]:
    """What sites do differently, which a run would train on side by side."""
    for key in sorted({key for one in files.values() for key in one.read_as}):
        by_file = {name: one.read_as.get(key, "none") for name, one in files.items()}
        if len(set(by_file.values())) > 1:
            said = "; ".join(f"{name}: {value}" for name, value in by_file.items())
            yield f"sites read with different {key} ({said}): equal levels do not mean the same"
    sizes = {f"{one.width} x {one.height}" for one in files.values()}
    if len(sizes) > 1:
        yield f"sites have pictures of {', '.join(sorted(sizes))}; a run needs one size: set side_px"
    if len({tuple(one.classes) for one in files.values()}) > 1:
        yield "sites name other classes, or in another order; a run needs one list: set classes in every [data]"
    without = [name for name, one in files.items() if one.stored is None]
    if without and len(without) < len(files):
        yield f"values before a window are not those of {', '.join(without)}"
