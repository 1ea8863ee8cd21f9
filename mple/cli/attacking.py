"""What `mple attack` does; apart from the other verbs because it imports torch."""

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from mple.attacks.lab.attack import AttackSettings
from mple.attacks.lab.gallery import gallery
from mple.attacks.lab.lab import AttackOutcome, attack_run
from mple.attacks.lab.record import record_of
from mple.attacks.lab.run_views import RunViews
from mple.attacks.registry import attacks, attacks_named
from mple.disk.private import make_private
from mple.disk.whole_files import write_whole
from mple.records.attack_results import ATTACKS, keep_attack
from mple.report.tables import say, table_of

_GALLERIES = "attacks"


def print_list(console: Console) -> None:
    """Every attack with its adversary and claim."""
    table = table_of("attacks, from the weakest adversary to the strongest", ["attack", "who", "what it gets"])
    for attack in attacks():
        table.add_row(attack.name, attack.adversary, attack.claim)
    console.print(table)


def attack_folder(
    folder: Path,
    names: Sequence[str],
    settings: AttackSettings,
    console: Console,
    *,
    out: Path,
    public: Path | None,
    threads: int,
) -> None:
    """Attack a run, write what comes of it into `out`, and print it.

    Raises ValueError: the folder, a name or a setting can't be used; OSError: a file can't be read or written.
    """
    torch.set_num_threads(threads)
    chosen = attacks_named(names)
    views = RunViews(folder, site=settings.site, pictures=settings.pictures, public=public)
    make_private(out / _GALLERIES)
    outcomes = []
    for outcome in attack_run(chosen, views, settings):
        picture = _write_gallery(out, outcome, views)
        record = record_of(settings, outcome, public=views.public.source, gallery=picture)
        keep_attack(out / ATTACKS, views.plan, record)
        outcomes.append(outcome)
        say(console, f"{outcome.attack.name}: {outcome.seconds:.1f} s")
    console.print(_outcomes(outcomes, settings))
    console.print(_figures(outcomes))
    say(console, f"public pictures: {views.public.source}")
    say(console, f"{out / ATTACKS}, galleries in {out / _GALLERIES}: they show pictures in the clear and morphed")


def _write_gallery(out: Path, outcome: AttackOutcome, views: RunViews) -> str | None:
    if outcome.score is None or not outcome.score.pictures:
        return None
    best = outcome.score.pictures[-1]
    way = f" {best.recovered.way}" if best.recovered.way else ""
    title = f"{outcome.attack.name}{way}: mean SSIM {best.ssim_N.mean():.4f}, {outcome.seconds:.1f} s"
    name = f"{_GALLERIES}/{outcome.attack.name}.png"
    drawn = gallery(title, best, views.truth, views.morphed_of(best.recovered.site, best.recovered.numbers_N))
    write_whole(out / name, drawn)
    return name


def _outcomes(outcomes: Sequence[AttackOutcome], settings: AttackSettings) -> Table:
    numbers = ["pictures", "SSIM mean", "least", "PSNR", "SSIM >= 0.9", "seconds"]
    table = table_of(f"attacks on site {settings.site}", ["attack", "who", "way"], numbers)
    for outcome in outcomes:
        name, who, seconds = outcome.attack.name, outcome.attack.adversary, f"{outcome.seconds:.1f}"
        if outcome.score is None:
            table.add_row(name, who, f"does not apply: {outcome.why_not}", *[""] * 5, seconds)
        elif not outcome.score.pictures:
            table.add_row(name, who, "no pictures; see the figures", *[""] * 5, seconds)
        for one in outcome.score.pictures if outcome.score else ():
            table.add_row(
                name,
                who,
                one.recovered.way,
                f"{len(one.ssim_N):,}",
                f"{one.ssim_N.mean():.4f}",
                f"{one.ssim_N.min():.4f}",
                f"{one.psnr_N.mean():.1f} dB",
                f"{100 * (one.ssim_N >= 0.9).mean():.0f} %",
                seconds,
            )
            name = who = seconds = ""
    return table


def _figures(outcomes: Sequence[AttackOutcome]) -> Table:
    table = table_of("figures", ["attack", "what"], ["value"])
    for outcome in outcomes:
        name = outcome.attack.name
        for figure in outcome.score.figures if outcome.score else ():
            value = f"{figure.value:.4g}" if isinstance(figure.value, float) else f"{figure.value}"
            table.add_row(name, figure.name, f"{value} {figure.unit}".strip())
            name = ""
    return table
