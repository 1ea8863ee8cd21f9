"""`plan.json`: the plan that a node follows or has followed last, in its state folder; a run's, in the run's own."""

from pathlib import Path

from mple.disk.whole_files import write_whole
from mple.plan import PlanError, RunPlan
from mple.records.state_files import PLAN


def kept_plan(folder: Path) -> RunPlan | None:
    """The plan that is kept in a folder, None where there is none.

    Raises PlanError: it is damaged, or of another version; the text names the file; OSError: it can't be read.
    """
    path = folder / PLAN
    try:
        return RunPlan.from_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except PlanError as fault:
        raise PlanError(f"{path}: {fault}") from None


def keep_plan(folder: Path, plan: RunPlan) -> None:
    """Write a plan into a folder, whole; it is on the disk when this returns."""
    write_whole(folder / PLAN, plan.to_json())
