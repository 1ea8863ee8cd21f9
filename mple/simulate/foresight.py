"""What all processes of a simulation will take of this machine together, told before any is started."""

from collections.abc import Iterable

from mple.data.images import DataError
from mple.data.source import choose_part, held_pixel_bytes
from mple.machine import available_bytes, require_memory, usable_cores
from mple.plan.memory import RunSize, coordinator_memory, site_memory, size_text, trainer_memory
from mple.simulate.settings import SimulationSettings

_FIX = (
    "name fewer sites, or lower machine.site_processes, training.ranks, training.batch, model.width or side_px, or "
    'choose the tiled layout (morph.preset = "compact")'
)


def foreseen_memory(settings: SimulationSettings) -> str:
    """A line for people; empty where the data are not here yet, or can't be used, which sites say best. All sites count
    as the first one, whose pictures are looked at by what their headers say. A CUDA device is not looked at: with one
    the compute node takes less of the machine's memory than is said.

    Raises MemoryShortError: this machine has less memory.
    """
    try:
        if settings.site_source(0).absent():
            return ""
        part, sites = choose_part(settings.site_source(0), held=False, verified=False), len(settings.sites)
    except DataError:
        return ""
    train, val, test = len(part.train), len(part.val), len(part.test)
    size = RunSize(
        image=part.catalogue.shape,
        classes=len(part.catalogue.classes),
        sites=sites,
        train=sites * train,
        val=sites * val,
        test=sites * test,
    )
    images, held = train + val + test, held_pixel_bytes(part)
    groups = [
        site_memory(settings, size, count * images, count * held, sites=count, at_once=usable_cores()).total
        for count in map(len, settings.site_groups)
    ]
    ranks = settings.training.ranks
    parts = {
        "the coordinator": coordinator_memory(settings, size, settings.custody).total,
        _several("rank", ranks) if ranks > 1 else "the compute node": ranks
        * trainer_memory(settings, size, custody=settings.custody).total,
        f"{_several('site', sites)} in {_several('process', len(groups))}": sum(groups),
    }
    total = sum(parts.values())
    require_memory(total, f"this simulation, {_shares(parts.items())}", _FIX)
    free = available_bytes()
    line = f"this simulation will need about {size_text(total)} of memory: {_shares(parts.items())}"
    if free is not None and total > free:
        line += f"; {size_text(free)} are free now: end other programs, or {_FIX}"
    return line


def _shares(parts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{what} {size_text(count)}" for what, count in parts)


def _several(what: str, count: int) -> str:
    plural = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"{count} {what if count == 1 else plural}"
