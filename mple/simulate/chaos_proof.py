"""What a run under faults has to show for itself, against the same run undisturbed: pure, and as a table and a file."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from mple.disk.json_records import canonical_json
from mple.disk.whole_files import write_whole
from mple.metrics import summary_scores
from mple.report import Summary
from mple.report.tables import say, table_of
from mple.report.verdict import kept_words
from mple.simulate.chaos import InjectedFault
from mple.simulate.chaos_schedule import ChaosSettings, FaultKind, Stage

REPORT = "chaos.json"


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that has to hold."""

    text: str
    holds: bool
    found: str


def claims(
    chaos: ChaosSettings,
    injected: Sequence[InjectedFault],
    disturbed: Summary,
    undisturbed: Summary | None,
    *,
    processes: int,
) -> tuple[Claim, ...]:
    """What has to hold after the faults that were asked for and done to a run of so many processes, and whether it
    does. Without an undisturbed run nothing is claimed about one."""
    ledgers = disturbed.balance
    asked = chaos.asked
    done = dict.fromkeys(FaultKind, 0)
    for fault in injected:
        done[fault.kind] += len(fault.nodes)
    found = [
        Claim(
            "every fault was carried out",
            done == asked,
            ", ".join(f"{done[kind]} of {asked[kind]} {kind}s" for kind in FaultKind),
        ),
        Claim(
            "the ledgers balance",
            ledgers.balanced,
            f"{ledgers.matched:,} messages matched at both ends, {ledgers.lost:,} lost in calls that were cut"
            + "".join(f"; {offender}" for offender in ledgers.offenders),
        ),
        _once(disturbed),
    ]
    missed = missed_nodes_and_stages(chaos, injected, processes)
    if missed is not None:
        found.append(Claim("every node and every stage was hit", not missed, "all" if not missed else f"not {missed}"))
    if undisturbed is not None:
        found += [
            _same("plan", disturbed.plan.sha256().hex(), undisturbed.plan.sha256().hex()),
            _same("network", disturbed.outcome.model_sha256, undisturbed.outcome.model_sha256),
            _same("kept epoch and early end", kept_words(disturbed), kept_words(undisturbed)),
            _same("losses and scores", _figures(disturbed), _figures(undisturbed), shown=False),
        ]
    return tuple(found)


def missed_nodes_and_stages(chaos: ChaosSettings, injected: Sequence[InjectedFault], processes: int) -> str | None:
    """Names of what no fault has hit; None when there were too few faults to hit everything."""
    if chaos.kills < max(processes, len(Stage)):
        return None
    killed = {name for fault in injected if fault.kind is FaultKind.KILL for name in fault.nodes}
    stages = {fault.stage for fault in injected}
    missed = [stage.value for stage in Stage if stage not in stages]
    if len(killed) < processes:
        missed.append(f"{processes - len(killed)} of {processes} nodes")
    return ", ".join(missed)


def write_report(
    path: Path,
    chaos: ChaosSettings,
    injected: Sequence[InjectedFault],
    proof: Sequence[Claim],
    summaries: tuple[Summary, Summary | None],
) -> None:
    """Write `chaos.json`: scripts read it."""
    disturbed, undisturbed = summaries
    report = {
        "proven": all(claim.holds for claim in proof),
        "settings": dataclasses.asdict(chaos),
        "claims": [dataclasses.asdict(claim) for claim in proof],
        "faults": [dataclasses.asdict(fault) for fault in injected],
        "disturbed": _figures_of(disturbed),
        "undisturbed": None if undisturbed is None else _figures_of(undisturbed),
    }
    write_whole(path, json.dumps(report, indent=2).encode() + b"\n")


def print_proof(
    injected: Sequence[InjectedFault], proof: Sequence[Claim], disturbed: Summary, console: Console
) -> None:
    """Print the faults that the run got over and what has to hold after them."""
    table = table_of("faults", ())
    for heading in ("at", "fault", "nodes", "stage", "epoch", "step", "for"):
        table.add_column(heading, justify="left" if heading in ("fault", "nodes", "stage") else "right")
    for fault in injected:
        links = f", connections: {fault.links}" if fault.kind is FaultKind.CUT else ""
        table.add_row(
            f"{fault.at_s:.1f} s",
            fault.kind.value,
            ", ".join(fault.nodes) + links,
            f"{fault.stage} {fault.share:.0%}",
            str(fault.epoch) if fault.epoch else "",
            str(fault.step) if fault.epoch else "",
            f"{fault.seconds:.1f} s",
        )
    console.print(table)
    resent = disturbed.overhead.sum("resent_samples")
    say(console, f"samples sent once more: {resent:,}")
    for claim in proof:
        say(console, f"{'holds' if claim.holds else 'FAILS'}  {claim.text}: {claim.found}")


def _once(summary: Summary) -> Claim:
    """Whether each epoch trained on each sample once, as the compute node has counted it."""
    samples = sum(site.train_images for site in summary.plan.sites)
    wrong = [
        f"epoch {epoch.epoch}: {epoch.samples} of {samples}"
        for epoch in summary.epochs
        if epoch.samples != samples or epoch.missing
    ]
    numbers = [epoch.epoch for epoch in summary.epochs]
    due = summary.plan.training.epochs if summary.plan.keep_rule.patience is None else summary.judged.epochs
    if numbers != list(range(1, due + 1)):
        wrong.append(f"epochs {numbers} of {due}")
    found = ", ".join(wrong) or f"{samples:,} samples in each of {len(numbers)} epochs"
    return Claim("no sample was lost or trained on twice in an epoch", not wrong, found)


def _same(what: str, ours: str, theirs: str, *, shown: bool = True) -> Claim:
    same = ours == theirs
    found = (ours[:16] if shown else "equal") if same else f"{ours[:200]} and {theirs[:200]}"
    return Claim(f"same {what} as the undisturbed run", same, found)


def _figures(summary: Summary) -> str:
    epochs = json.dumps([[epoch.loss, epoch.scores] for epoch in summary.epochs], sort_keys=True)
    return epochs + canonical_json(summary.judged).decode()


def _figures_of(summary: Summary) -> dict[str, object]:
    return {
        "model_sha256": summary.outcome.model_sha256,
        "plan_sha256": summary.plan.sha256().hex(),
        "kept_epoch": summary.judged.kept_epoch,
        "epochs": summary.judged.epochs,
        **summary_scores(summary.val_scores, "val"),
        **summary_scores(summary.scores),
        "messages_matched": summary.balance.matched,
        "messages_lost": summary.balance.lost,
        "samples_resent": summary.overhead.sum("resent_samples"),
    }
