"""A finished run once more, undisturbed and bit for bit: same plan, same secrets, same order, new certificates."""

import shutil
from pathlib import Path

from rich.console import Console

from mple.plan import Custody, read_settings
from mple.records.run_folder import SIMULATION, RunFolder
from mple.report import Summary
from mple.simulate.laying_out import lay_out
from mple.simulate.runner import run_nodes
from mple.simulate.settings import SimulationSettings

_MOST_VAULT_BYTES = 16 * 1024 * 1024


def repeat(done: Path, out: Path, console: Console, *, plain: bool = False, tables: bool = True) -> Summary | None:
    """Run what the folder of a simulation holds again and sum it up; None when it was interrupted.

    Guarantees: on the same machine the new run makes the same plan and, if both finish, the same network. The channel
    order comes from the consortium secret and rounding from the morph keys, so the new folder holds copies of the
    vaults; guard it like the old one. `done` has finished, or has got as far as its set-up; `out` is new or empty;
    `plain` shows lines instead of a live view; `tables` prints the summary.

    Raises ValueError: as `lay_out_again`; SimulationError: a node failed.
    """
    folder, settings = lay_out_again(done, out)
    return run_nodes(folder, settings, console, plain=plain, tables=tables)


def lay_out_again(done: Path, out: Path) -> tuple[RunFolder, SimulationSettings]:
    """Lay out the run of a simulation's folder once more: its id, its vaults, new certificates and ports.

    Raises ValueError: `done` is no such folder, its run was of `escrow` custody, or `out` is not empty.
    """
    before = RunFolder.begun(done)
    plan = before.plan()
    require_repeatable(plan.custody)
    settings = read_settings(SimulationSettings, before.path / SIMULATION)
    folder = lay_out(out, settings, run_id=plan.run_id)
    for site in folder.sites:
        kept = before.vault_folder(site)
        if sum(path.stat().st_size for path in kept.rglob("*")) > _MOST_VAULT_BYTES:
            raise ValueError(f"{kept} holds more than {_MOST_VAULT_BYTES:,} bytes; it is no vault")
        shutil.copytree(kept, folder.vault_folder(site))  # modes are copied, too
    return folder, settings


def require_repeatable(custody: Custody) -> None:
    """Refuse what would come out otherwise.

    Raises ValueError: the coordinator of an `escrow` run draws the consortium secret anew.
    """
    if custody is Custody.ESCROW:
        raise ValueError(
            'a run with custody = "escrow" can\'t be repeated bit for bit: its coordinator draws a new channel order; '
            'use custody = "site", or --no-repeat'
        )
