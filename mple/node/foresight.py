"""What a node will take of its machine, told before a run in one line, and refused where the machine has not so much.

Less free memory than a node will need is a warning: other programs may end. Less memory than that in all is a refusal.
"""

from mple.machine import available_bytes, held_bytes, require_memory
from mple.node.logs import log, warn
from mple.plan.memory import Forecast, size_text


def foresee_memory(forecast: Forecast, what: str, fix: str, *, processes: int = 1) -> None:
    """Tell and judge what this process will need of the machine's memory.

    Args:
        forecast: Of this process.
        what: Whose, for people.
        fix: The settings that make it less.
        processes: So many alike on this machine, this one among them.

    Raises MemoryShortError: the machine, or what it lets this process have, is smaller.
    """
    alike = f" in each of {processes} processes" if processes > 1 else ""
    log("memory", f"{what} will need about {forecast.text()}{alike}", bytes=forecast.total)
    require_memory(processes * forecast.total, f"{what}{alike}", fix)
    free, coming = available_bytes(), processes * (forecast.total - held_bytes())
    if free is not None and coming > free:
        warn(
            "memory_scarce",
            f"{what}{alike} will need {size_text(coming)} more, and {size_text(free)} of memory are free now: end "
            f"other programs, or {fix}",
        )


def foresee_device(forecast: Forecast, device: str, *, total: int, free: int, fix: str) -> None:
    """The same of a device's own memory, of which `free` bytes of `total` are free now.

    Raises MemoryShortError: it is smaller.
    """
    what = f"training on {device}"
    log("device_memory", f"{what} will need about {forecast.text()}", bytes=forecast.total)
    require_memory(forecast.total, what, fix, has=total, whose=device)
    if forecast.total > free:
        warn(
            "memory_scarce",
            f"{what} will need {size_text(forecast.total)}, and {size_text(free)} of its memory are free now: end "
            f"other programs there, or {fix}",
        )
