"""`mple simulate` and `mple plain`: whole runs on this machine."""

import resource
from pathlib import Path
from typing import Annotated

import typer

from mple.exit_codes import ExitCode
from mple.extras import require_extra
from mple.plan import SettingsError, read_settings, settings_from, write_settings
from mple.simulate.chaos import simulate_chaos
from mple.simulate.chaos_proof import REPORT, claims, print_proof, write_report
from mple.simulate.chaos_schedule import ChaosSettings
from mple.simulate.foresight import foreseen_memory
from mple.simulate.own_names import names_available
from mple.simulate.processes import processes_of, rank_names
from mple.simulate.repeat import repeat, require_repeatable
from mple.simulate.runner import simulate
from mple.simulate.settings import DEFAULT_DATA, SimulationSettings
from mple.terminal import echo, wide_console

_Config = Annotated[
    Path | None, typer.Argument(help="TOML file; without it, three hospitals share 10,000 pictures of CIFAR-10.")
]
_Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Replace a setting.")]
_Out = Annotated[Path, typer.Option("--out", help="New folder for the run.")]


def simulate_run(
    out: _Out,
    config: _Config = None,
    overrides: _Overrides = None,
    ranks: Annotated[
        int | None, typer.Option("--ranks", help="Processes of the compute node that train together: training.ranks.")
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Lines instead of the live view.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Print the effective settings and end.")] = False,
    again: Annotated[
        Path | None, typer.Option("--repeat", metavar="DIR", help="Run the simulation in DIR again, bit for bit.")
    ] = None,
    chaos: Annotated[
        int | None, typer.Option("--chaos", metavar="SEED", help="Kill, hold, starve and cut off nodes by a schedule.")
    ] = None,
    kills: Annotated[int, typer.Option("--kills", help="With --chaos: nodes killed (SIGKILL).")] = 6,
    stops: Annotated[int, typer.Option("--stops", help="With --chaos: nodes held for seconds (SIGSTOP).")] = 1,
    cuts: Annotated[int, typer.Option("--cuts", help="With --chaos: times that a node's links are cut.")] = 2,
    starves: Annotated[
        int | None, typer.Option("--starves", help="With --chaos: nodes that run out of descriptors. [default: 1]")
    ] = None,
    unnames: Annotated[
        int | None, typer.Option("--unnames", help="With --chaos: times that a name can't be looked up. [default: 1]")
    ] = None,
    no_repeat: Annotated[
        bool, typer.Option("--no-repeat", help="With --chaos: don't run it undisturbed to compare with.")
    ] = False,
) -> int:
    """Run a coordinator, a compute node and hospitals as separate processes on this machine."""
    if not check:
        require_extra("mple simulate", "compute", "torch", "tensorboardX")
    if again is not None:
        if config is not None or overrides or chaos is not None or ranks is not None:
            raise SettingsError(
                "--repeat takes all settings from the folder; give it no file, --set, --ranks or --chaos"
            )
        summary = repeat(again, out, wide_console(), plain=plain)
        return ExitCode.INTERRUPTED if summary is None else ExitCode.DONE
    settings = _settings(config, [*(overrides or ()), *([] if ranks is None else [f"training.ranks={ranks}"])])
    if check:
        echo(*write_settings(settings).splitlines())
        if line := foreseen_memory(settings):
            echo(f"# {line}")
        return ExitCode.DONE
    if chaos is not None:
        able_to_starve, able_to_unname = hasattr(resource, "prlimit"), names_available()
        if starves and not able_to_starve:
            raise SettingsError(f"--starves {starves}: this system sets no limits of other processes; leave it out")
        if unnames and not able_to_unname:
            text = (
                f"--unnames {unnames}: this system gives a process no mounts of its own (user namespaces); leave it out"
            )
            raise SettingsError(text)
        faults = ChaosSettings(
            seed=chaos,
            kills=kills,
            stops=stops,
            cuts=cuts,
            starves=int(able_to_starve) if starves is None else starves,
            unnames=int(able_to_unname) if unnames is None else unnames,
        )
        return _chaos(settings, faults, out, plain=plain, compare=not no_repeat)
    summary = simulate(settings, out, wide_console(), plain=plain)
    return ExitCode.INTERRUPTED if summary is None else ExitCode.DONE


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
    require_extra("mple plain", "compute", "torch")
    # Torch takes a second to load; the other verbs don't wait for it.
    from mple.cli.plain_training import train_as_plain

    train_as_plain(_settings(config, overrides), out, like)


def _chaos(settings: SimulationSettings, chaos: ChaosSettings, out: Path, *, plain: bool, compare: bool) -> ExitCode:
    """A run under faults, the same run undisturbed, and what the two prove."""
    if compare:
        require_repeatable(settings.custody)
    console = wide_console()
    disturbed = simulate_chaos(settings, chaos, out, console, plain=plain)
    if disturbed is None:
        return ExitCode.INTERRUPTED
    summary, injected = disturbed
    undisturbed = repeat(out, out / "undisturbed", console, plain=plain, tables=False) if compare else None
    if compare and undisturbed is None:
        return ExitCode.INTERRUPTED
    processes = len(processes_of(settings)) + len(rank_names(settings))
    proof = claims(chaos, injected, summary, undisturbed, processes=processes)
    write_report(out / REPORT, chaos, injected, proof, (summary, undisturbed))
    print_proof(injected, proof, summary, console)
    return ExitCode.DONE if all(claim.holds for claim in proof) else ExitCode.RUN_FAILED


def _settings(config: Path | None, overrides: list[str] | None) -> SimulationSettings:
    if config is None:
        whole = any(text.startswith("data.kind") for text in overrides or ())
        raw = {} if whole else {"data": DEFAULT_DATA}
        return settings_from(SimulationSettings, raw, overrides or (), base=Path.cwd(), where="simulation")
    return read_settings(SimulationSettings, config, overrides or ())
