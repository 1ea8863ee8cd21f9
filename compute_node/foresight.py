"""What training by a plan will take of this machine, told and judged before anything of it is taken."""

import os
import shutil

from mple.model.device import Device
from mple.node.foresight import foresee_device, foresee_memory
from mple.node.logs import log, warn
from mple.plan import ComputeSettings, RunPlan
from mple.plan.memory import RunSize, device_memory, sample_cache_bytes, size_text, trainer_memory
from mple.records.state_files import CACHE

_FIX = "lower training.batch, side_px or model.width, or choose the tiled layout (morph.preset)"
_PROCESSES = "LOCAL_WORLD_SIZE"
"""How many `torchrun` has started on this machine, as it tells each."""


def foresee(plan: RunPlan, settings: ComputeSettings, device: Device) -> None:
    """Tell what memory and disk the plan takes here.

    Raises MemoryShortError: the machine, or its device, has less memory; DeviceError: the device has not the plan's
    arithmetic.
    """
    device.require_precision(plan.training.precision)
    log("device", f"trains on {device.name}")
    size, own = RunSize.of(plan), device.memory()
    batch = f"training with {size.sites} sites' layers and a batch of {plan.training.batch}"
    processes = int(os.environ.get(_PROCESSES, "1"))
    foresee_memory(
        trainer_memory(plan, size, cuda=own is not None, custody=plan.custody), batch, _FIX, processes=processes
    )
    if own is not None:
        foresee_device(device_memory(plan, size), device.name, total=own.total, free=own.free, fix=_FIX)
    cache = settings.state / CACHE.format(plan.run_id)
    coming = sample_cache_bytes(plan, size) - (cache.stat().st_size if cache.exists() else 0)
    free = shutil.disk_usage(settings.state).free
    if coming > free:
        warn(
            "disk_scarce",
            f"samples may take {size_text(coming)} more in {settings.state}, and {size_text(free)} are free there: "
            "make room, or name a state folder on a larger disk",
        )
