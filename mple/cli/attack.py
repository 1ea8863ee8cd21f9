"""`mple attack`: run the attack lab on a finished run."""

from pathlib import Path
from typing import Annotated

import typer

from mple.extras import require_extra
from mple.records.run_folder import RunFolder
from mple.terminal import wide_console


def attack(
    names: Annotated[list[str] | None, typer.Argument(help="Attacks by name; all of them by default.")] = None,
    run: Annotated[Path | None, typer.Option("--run", metavar="DIR", help="Folder of a finished simulation.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="For attacks.json and galleries; the run's by default.")
    ] = None,
    site: Annotated[str, typer.Option("--site", help="The site under attack; the plan's first by default.")] = "",
    pictures: Annotated[int, typer.Option("--pictures", min=1, help="Most pictures to recover and score.")] = 256,
    public: Annotated[
        Path | None,
        typer.Option("--public", metavar="FILE.npz", help="Other public pictures than the set's own test pictures."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of whatever an attack draws.")] = 1,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of arithmetic.")] = 1,
    list_only: Annotated[bool, typer.Option("--list", help="Name the attacks and end.")] = False,
) -> None:
    """Attack a finished run with what each adversary would hold; print, and write attacks.json and galleries. Galleries
    show pictures of the site in the clear beside their morphed forms."""
    require_extra("mple attack", "attack", "torch")
    # Torch takes a second to load; the other verbs don't wait for it.
    from mple.attacks.lab.attack import AttackSettings
    from mple.cli import attacking

    console = wide_console()
    if list_only:
        attacking.print_list(console)
        return
    if run is None:
        raise typer.BadParameter("give the folder of a finished simulation: --run DIR")
    settings = AttackSettings(site=site or RunFolder.finished(run).sites[0], pictures=pictures, seed=seed)
    attacking.attack_folder(run, names or (), settings, console, out=out or run, public=public, threads=threads)
