"""`mple simulate`, `mple report` and `mple plain`: whole runs on this machine."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from mple.baselines import PlainEpoch, PlainSettings, train_plain
from mple.data import Dataset, open_source
from mple.exit_codes import ExitCode
from mple.model import Stem, save_trunk
from mple.pki import Vault
from mple.plan import RunPlan, SettingsError, read_settings, settings_from, write_settings
from mple.plan.orders import channel_order, label_order
from mple.report import print_summary, read_summary
from mple.simulate import SimulationSettings, new_folder, simulate
from mple.simulate.settings import DEFAULT_DATA

_Config = Annotated[
    Path | None, typer.Argument(help="TOML file; without it, three hospitals share 10,000 pictures of CIFAR-10.")
]
_Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Replace a setting.")]
_Out = Annotated[Path, typer.Option("--out", help="New folder for the run.")]


def simulate_run(
    out: _Out,
    config: _Config = None,
    overrides: _Overrides = None,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of the live view.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Print the effective settings and end.")] = False,
) -> int:
    """Run a coordinator, a compute node and hospitals as separate processes on this machine."""
    settings = _settings(config, overrides)
    if check:
        typer.echo(write_settings(settings), nl=False)
        return int(ExitCode.DONE)
    summary = simulate(settings, out, _console(), plain=plain)
    return int(ExitCode.INTERRUPTED if summary is None else ExitCode.DONE)


def report_run(folder: Annotated[Path, typer.Argument(help="Folder of a finished run.")]) -> None:
    """Print the tables of a finished run again."""
    print_summary(read_summary(folder), _console())


def train_plain_run(
    out: _Out,
    config: _Config = None,
    overrides: _Overrides = None,
    like: Annotated[
        Path | None,
        typer.Option(help="Folder of a simulation: use its channel and label order, to compare losses step by step."),
    ] = None,
) -> None:
    """Train the same network in the same order on the plain pictures, in one process, to compare with."""
    settings = _settings(config, overrides)
    sites = [open_source(settings.site_source(place)) for place in range(len(settings.sites))]
    plain = PlainSettings(
        model=settings.model,
        training=settings.training,
        normalisation=settings.normalisation,
        stem=None if settings.stem_file is None else Stem.from_safetensors(settings.stem_file),
    )
    if like is not None:
        plain = _as_in(like, plain, settings.sites, sites)
    new_folder(out)
    torch.set_num_threads(settings.machine.trainer_threads)
    outcome = train_plain(sites, plain, _say_epoch)
    save_trunk(outcome.trunk, out / "model.safetensors", {"trained": "plain"})
    summary = {
        "state": "finished",
        "epochs": [
            {"loss": e.loss, "test_accuracy": e.test_accuracy, "seconds": e.seconds, "losses": e.losses}
            for e in outcome.epochs
        ],
        "test_accuracy": outcome.epochs[-1].test_accuracy,
        "train_seconds": outcome.train_seconds,
        "model_sha256": outcome.model_sha256,
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def _settings(config: Path | None, overrides: list[str] | None) -> SimulationSettings:
    if config is None:
        whole = any(text.startswith("data.kind") for text in overrides or ())
        raw = {} if whole else {"data": DEFAULT_DATA}
        return settings_from(SimulationSettings, raw, overrides or (), base=Path.cwd(), where="simulation")
    return read_settings(SimulationSettings, config, overrides or ())


def _as_in(folder: Path, plain: PlainSettings, names: Sequence[str], sites: Sequence[Dataset]) -> PlainSettings:
    """The same with the channel order and label order of a simulated run, whose plan must be the same otherwise."""
    try:
        plan = RunPlan.from_json((folder / "plan.json").read_bytes())
    except FileNotFoundError:
        raise SettingsError(f"{folder} holds no plan.json: is it the folder of a finished simulation?") from None
    planned = [(site.name, site.train_images, site.test_images) for site in plan.sites]
    same = {
        "model": plan.model == plain.model,
        "training": plan.training == plain.training,
        "normalisation": plan.normalisation == plain.normalisation,
        "sites": planned == [(name, len(site.train), len(site.test)) for name, site in zip(names, sites, strict=True)],
    }
    changed = [name for name, equal in same.items() if not equal]
    if changed:
        raise SettingsError(f"the run in {folder} had another {', '.join(changed)}; give it the same settings")
    secret = Vault(folder / "nodes" / plan.sites[0].name / "vault").consortium_secret(plan.run_id)
    return replace(
        plain,
        channel_order=channel_order(secret, plan.filters),
        label_order=label_order(secret, len(plan.classes)),
    )


def _say_epoch(epoch: PlainEpoch) -> None:
    scored = "not scored" if epoch.test_accuracy is None else f"{epoch.test_accuracy:.4f}"
    typer.echo(f"epoch {epoch.epoch}: loss {epoch.loss:.4f}, test accuracy {scored}, {epoch.seconds:.1f} s")


def _console() -> Console:
    """Wide enough for the tables where there is no terminal to ask."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=160)
