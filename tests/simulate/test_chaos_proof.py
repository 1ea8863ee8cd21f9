"""What a disturbed run must show: each claim fails for its own reason, and what was not compared is not claimed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mple.meter.reconciliation import Balance, Overhead
from mple.metrics import Tally
from mple.plan import TrainingSettings
from mple.records.run_folder import RunFolder
from mple.records.scores import NetworkScores
from mple.records.training import EpochMetrics
from mple.report import Summary
from mple.simulate.chaos import InjectedFault
from mple.simulate.chaos_proof import claims, print_proof, write_report
from mple.simulate.chaos_schedule import ChaosSettings, FaultKind, Stage
from tests.support.small_plan import SIZES, small_plan
from tests.support.training_records import epoch_metrics, outcome

SAMPLES = sum(train for train, _ in SIZES.values())
NODES = 2 + len(SIZES)
VALS = {"north": 2}
CHAOS = ChaosSettings(seed=1, kills=5, stops=1, cuts=0)


def summary(**changed: Any) -> Summary:
    lines = [
        epoch_metrics(epoch=number, loss=1.0 / number, scores={"accuracy": 0.5}, samples=SAMPLES) for number in (1, 2)
    ]
    ledgers = Balance(matched=90, lost=4, only_sent=0, only_received=0, size_differs=0, offenders=())
    known: dict[str, Any] = {
        "folder": RunFolder(Path("run"), tuple(SIZES)),
        "plan": small_plan(training=TrainingSettings(epochs=2), vals=VALS),
        "outcome": outcome(model_sha256="ab" * 32),
        "judged": judged(),
        "metrics": tuple(lines),
        "overhead": Overhead(()),
        "kinds": (),
        "balance": ledgers,
        "versions": {},
    }
    return Summary(**(known | changed))


def judged(right: int = 2, **changed: Any) -> NetworkScores:
    known: dict[str, Any] = {
        "plan_sha256": "ab" * 32,
        "model_sha256": "cd" * 32,
        "kept_epoch": 1,
        "epochs": 2,
        "val": {"north": {"counts": Tally((2, 1))}},
        "test": {"north": {"counts": Tally((3, right))}},
    }
    return NetworkScores(**(known | changed))


def injected(kind: FaultKind, *nodes: str, stage: Stage = Stage.TRAINING) -> InjectedFault:
    return InjectedFault(
        at_s=1.0, kind=kind, nodes=nodes, stage=stage, share=0.5, epoch=1, step=2, seconds=0.5, links=0
    )


INJECTED = [
    injected(FaultKind.KILL, "coordinator", stage=Stage.GATHERING),
    injected(FaultKind.KILL, "compute", stage=Stage.SETUP),
    injected(FaultKind.KILL, "north", "south", stage=Stage.FEEDING),
    injected(FaultKind.KILL, "north", stage=Stage.TRAINING),
    injected(FaultKind.STOP, "coordinator", stage=Stage.END),
]


def failing(injected: list[InjectedFault], disturbed: Summary, undisturbed: Summary | None) -> list[str]:
    return [claim.text for claim in claims(CHAOS, injected, disturbed, undisturbed, processes=NODES) if not claim.holds]


def test_a_run_that_equals_the_undisturbed_one_is_proven() -> None:
    assert failing(INJECTED, summary(), summary()) == []


def test_scores_are_equal_in_whatever_order_they_came() -> None:
    one, other = {"accuracy": 0.5, "loss": 1.0}, {"loss": 1.0, "accuracy": 0.5}
    assert failing(INJECTED, summary(metrics=epochs(scores=one)), summary(metrics=epochs(scores=other))) == []


def epochs(**changed: Any) -> tuple[EpochMetrics, ...]:
    return tuple(replace(epoch, **changed) for epoch in summary().epochs)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"outcome": outcome(model_sha256="cd" * 32)}, "same network"),
        ({"metrics": epochs(loss=2.0)}, "same losses"),
        ({"judged": judged(right=1)}, "same losses"),
        ({"judged": judged(kept_epoch=2)}, "same kept epoch"),
        ({"judged": judged(epochs=1)}, "same losses"),
        ({"plan": small_plan(training=TrainingSettings(epochs=2, seed=9), vals=VALS)}, "same plan"),
        ({"metrics": epochs(samples=SAMPLES + 1)}, "no sample was lost"),
        ({"metrics": epochs(missing={"north": "0"})}, "no sample was lost"),
        ({"metrics": summary().epochs[:1] * 2}, "no sample was lost"),
        ({"balance": replace(summary().balance, only_received=1, offenders=("one too many",))}, "the ledgers balance"),
    ],
)
def test_each_difference_has_its_claim(changed: dict[str, Any], words: str) -> None:
    assert any(text.startswith(words) for text in failing(INJECTED, summary(**changed), summary()))


def test_an_early_end_ends_the_epochs_that_are_due() -> None:
    def ended(epochs: int) -> Summary:
        plan = small_plan(training=TrainingSettings(epochs=9, patience_epochs=1), vals=VALS)
        return summary(plan=plan, judged=judged(epochs=epochs))

    assert failing(INJECTED, ended(2), ended(2)) == []
    assert [text[:18] for text in failing(INJECTED, ended(3), ended(3))] == ["no sample was lost"]


def test_faults_that_were_not_carried_out_prove_nothing() -> None:
    assert failing(INJECTED[1:], summary(), summary()) == [
        "every fault was carried out",
        "every node and every stage was hit",
    ]


def test_without_the_undisturbed_run_nothing_is_claimed_of_it() -> None:
    texts = [claim.text for claim in claims(CHAOS, INJECTED, summary(), None, processes=NODES)]
    assert not any("undisturbed" in text for text in texts)
    few = ChaosSettings(seed=1, kills=1, stops=0, cuts=0)
    assert len(claims(few, INJECTED[:1], summary(), None, processes=NODES)) == len(texts) - 1


def test_the_report_and_the_screen_say_the_same(tmp_path: Path) -> None:
    disturbed = summary(outcome=outcome(model_sha256="cd" * 32))
    proof = claims(CHAOS, INJECTED, disturbed, summary(), processes=NODES)
    write_report(tmp_path / "chaos.json", CHAOS, INJECTED, proof, (disturbed, summary()))
    report = json.loads((tmp_path / "chaos.json").read_text())
    assert report["proven"] is False
    assert [fault["nodes"] for fault in report["faults"]] == [list(one.nodes) for one in INJECTED]
    assert report["undisturbed"]["model_sha256"] == "ab" * 32
    console = Console(width=160, record=True)
    print_proof(INJECTED, proof, disturbed, console)
    shown = console.export_text()
    assert "FAILS  same network as the undisturbed run" in shown
    assert "north, south" in shown
    assert shown.count("holds") == sum(claim.holds for claim in proof)
