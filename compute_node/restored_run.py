"""The last finished run as its state folder keeps it, to answer predictions again after a restart.

No coordinator is needed: plan, outcome, layers and network lie here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compute_node.layers.restore import listed_layers
from compute_node.predictor import Predictor
from compute_node.training.metrics_file import read_outcome
from mple.model import Vgg16Config, build_trunk, load_trunk, state_sha256
from mple.plan import PlanError, RunPlan


@dataclass(frozen=True, slots=True)
class RestoredRun:
    """A finished run that can answer."""

    plan: RunPlan
    predictor: Predictor


def restored_run(state: Path) -> RestoredRun | None:
    """The finished run of a state folder, or None when its last run has not finished.

    Raises:
        ValueError: The run has finished, but a file of it is missing, damaged or another run's.
    """
    plan_path, outcome_path = state / "plan.json", state / "outcome.json"
    if not plan_path.exists() or not outcome_path.exists():
        return None
    try:
        plan = RunPlan.from_json(plan_path.read_bytes())
    except PlanError as fault:
        raise PlanError(f"{plan_path}: {fault}") from None
    outcome = read_outcome(outcome_path)
    if outcome.plan_sha256 != plan.sha256().hex():
        return None
    bank = listed_layers(state / "layers", plan)
    trunk = build_trunk(model_config(plan), plan.training.seed)
    model_path = state / "model.safetensors"
    try:
        load_trunk(trunk, model_path)
    except (OSError, ValueError) as fault:
        raise ValueError(f"the network of run {plan.run_id} can't be read: {fault}") from None
    if state_sha256(trunk) != outcome.model_sha256:
        raise ValueError(f"{model_path} differs from the network that run {plan.run_id} trained; restore it")
    return RestoredRun(plan, Predictor(plan, trunk, bank))


def model_config(plan: RunPlan) -> Vgg16Config:
    """The size of a plan's trunk."""
    return Vgg16Config(classes=len(plan.classes), width=plan.model.width, dropout=plan.model.dropout)
