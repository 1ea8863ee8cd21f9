"""What the coordinator will take of its machine: refused when a site joins whose layers it could not hold, told with
the plan."""

from coordinator.plan_maker import image_of
from mple.machine import require_memory
from mple.node.foresight import foresee_memory
from mple.plan import CoordinatorSettings, RunPlan
from mple.plan.memory import RunSize, coordinator_memory
from mple.v1 import coordinator_pb2

_WHAT = "the coordinator with a site's layer under review"
_FIX = 'choose the tiled layout (morph.preset = "compact"), or lower model.width'


def require_room(profile: coordinator_pb2.SiteProfile, settings: CoordinatorSettings) -> None:
    """Raises MemoryShortError: this machine can't hold what a run with such a site takes here."""
    sites, classes = len(settings.run.sites), len(profile.classes)
    size = RunSize(image=image_of(profile), classes=classes, sites=sites, train=0, val=0, test=0)
    require_memory(coordinator_memory(settings, size, settings.run.custody).total, _WHAT, _FIX)


def foresee(plan: RunPlan) -> None:
    """Tell it. Raises MemoryShortError: as `require_room`."""
    foresee_memory(coordinator_memory(plan, RunSize.of(plan), plan.custody), _WHAT, _FIX)
