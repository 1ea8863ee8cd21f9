"""The optimiser of a trunk's weights with its one-cycle learning rate (Smith & Topin, 2018).

It holds all that a step depends on besides weights, gradients and the number of steps done: moments, counts of steps
and rates. Those are tensors with a name each, so that a checkpoint has them beside the weights.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mple.model.settings import OptimiserName, TrainingSettings

_MOMENT, _RATES = "optimiser.", "learning_rates"
_SECOND_BETA = 0.999


def _sgd(groups: list[dict[str, Any]], settings: TrainingSettings) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, momentum=settings.momentum, nesterov=settings.momentum > 0)


def _adamw(groups: list[dict[str, Any]], settings: TrainingSettings) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, betas=(settings.momentum, _SECOND_BETA))


_KINDS: Mapping[OptimiserName, Callable[[list[dict[str, Any]], TrainingSettings], torch.optim.Optimizer]] = {
    OptimiserName.SGD: _sgd,
    OptimiserName.ADAMW: _adamw,
}


def parameter_groups(trunk: nn.Module, settings: TrainingSettings) -> list[dict[str, Any]]:
    """A trunk's weights by what they have in common: `params`, the highest `lr` and the `weight_decay`. Matrices decay,
    biases and batch norms do not; all but the last layer have the settings' part of the rate; frozen ones are in no
    group."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, weight in trunk.named_parameters():
        if weight.requires_grad:
            groups.setdefault((name.startswith("features."), weight.ndim > 1), []).append(weight)
    return [
        {
            "params": weights,
            "lr": settings.highest_lr * (settings.features_lr if features else 1.0),
            "weight_decay": settings.decay if matrices else 0.0,
        }
        for (features, matrices), weights in sorted(groups.items(), reverse=True, key=lambda group: group[0])
    ]


class Optimiser:
    """The steps of one training.

    Guarantees: equal gradients give equal weights, bit for bit, on one machine with equal thread counts; so do those of
    an optimiser that was restored from another's `state`.
    """

    def __init__(self, trunk: nn.Module, settings: TrainingSettings, total_steps: int) -> None:
        self._named = dict(trunk.named_parameters())
        groups = parameter_groups(trunk, settings)
        peaks = [group["lr"] for group in groups]
        self._steps = _KINDS[settings.optimiser](groups, settings)
        total_steps, share = max(2, total_steps), settings.warmup_share
        if share * total_steps == 1:  # the rise would end where it begins, and torch divide by its length
            share *= 1 + 1e-9
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._steps, max_lr=peaks, total_steps=total_steps, pct_start=share, cycle_momentum=False
        )

    @property
    def learning_rates(self) -> list[float]:
        """Of the step to come, one for each of the `parameter_groups`."""
        return [float(group["lr"]) for group in self._steps.param_groups]

    def clear_gradients(self) -> None:
        """Forget the gradients of the step before."""
        self._steps.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Change the weights by their gradients, and the rates for the step to come."""
        self._steps.step()
        self._schedule.step()

    def state(self) -> dict[str, Tensor]:
        """All that the next step depends on but weights and settings; the optimiser's own tensors, as they are now."""
        rates = torch.tensor(self.learning_rates, dtype=torch.float64)
        moments = {
            f"{_MOMENT}{kind}.{name}": moment
            for name, weight in self._named.items()
            for kind, moment in self._steps.state.get(weight, {}).items()
            if moment is not None
        }
        return {**moments, _RATES: rates}

    def restore(self, tensors: Mapping[str, Tensor], steps_done: int) -> None:
        """Go on where another optimiser of the same kind and network was, whose `state` is among these tensors."""
        for full, kept in tensors.items():
            if not full.startswith(_MOMENT):
                continue
            kind, name = full.removeprefix(_MOMENT).split(".", 1)
            weight = self._named[name]
            # Of the weight's own memory order: arithmetic on another order may round otherwise. Counts have none.
            moment = torch.empty_like(weight).copy_(kept).detach() if kept.shape == weight.shape else kept.clone()
            self._steps.state[weight][kind] = moment
        rates = tensors[_RATES].tolist()
        for group, rate in zip(self._steps.param_groups, rates, strict=True):
            group["lr"] = rate
        schedule = self._schedule.state_dict()
        schedule.update(last_epoch=steps_done, _step_count=steps_done + 1, _last_lr=rates)
        self._schedule.load_state_dict(schedule)
