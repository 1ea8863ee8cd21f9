"""`plan.json`: the plan that a node follows or has followed last, in its state folder; a run's, in the run's own."""

from pathlib import Path

from mple.disk.bounded import read_bounded
from mple.disk.damage import with_checksum, without_checksum
from mple.disk.whole_files import write_whole
from mple.plan import PlanError, RunPlan
from mple.records.state_files import PLAN

_FIX = "put the file back as it was, or remove it: the node that starts again keeps the coordinator's plan anew"


def kept_plan(folder: Path) -> RunPlan | None:
    """The plan that is kept in a folder, None where there is none.

    Raises DamagedError: its bytes are not those that were written; PlanError: it is of another version; the text names
    the file; OSError: it can't be read; UnsoundFileError: it is too large.
    """
    path = folder / PLAN
    try:
        return RunPlan.from_json(without_checksum(read_bounded(path), path, _FIX))
    except FileNotFoundError:
        return None
    except PlanError as fault:
        raise PlanError(f"{path}: {fault}") from None


def keep_plan(folder: Path, plan: RunPlan) -> None:
    """Write a plan into a folder, whole; it is on the disk when this returns."""
    write_whole(folder / PLAN, with_checksum(plan.to_json()))
