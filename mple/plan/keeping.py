"""Which epoch's network a training keeps, and when it ends before its last epoch, by what validation says. Pure."""

from dataclasses import dataclass

from mple.metrics import METRICS
from mple.model.settings import Keep
from mple.plan.settings import RunChoices


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """What is known of the epochs that have been validated so far."""

    best_epoch: int = 0
    """The first one with the best value, counted from 1; 0 while none has a value."""
    best_value: float = 0.0
    """Its value, where there is one."""
    waited: int = 0
    """Epochs with a value since then, none of them better."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeepRule:
    """How a training judges its epochs.

    Guarantees: what follows is a function of the values of the epochs in their order; of equally good epochs the first
    is the best; an epoch without a value, as one that nobody scored, changes nothing.
    """

    best: bool
    """Whether the best epoch's network is kept; else, and while there is no best one, the last epoch's is."""
    higher_is_better: bool
    patience: int | None
    """Epochs that may pass without a better one before training ends; None for no early end."""

    def after(self, judged: Judged, epoch: int, value: float | None) -> Judged:
        """What is known once an epoch, counted from 1, has this value."""
        if value is None:
            return judged
        better = value > judged.best_value if self.higher_is_better else value < judged.best_value
        if better or not judged.best_epoch:
            return Judged(best_epoch=epoch, best_value=value)
        return Judged(best_epoch=judged.best_epoch, best_value=judged.best_value, waited=judged.waited + 1)

    def ends(self, judged: Judged) -> bool:
        """Whether training ends here, before its last epoch."""
        return self.patience is not None and judged.waited >= self.patience


def keep_rule(choices: RunChoices, *, validated: bool) -> KeepRule:
    """The rule of a run; `validated` says whether any of its sites has validation images.

    Raises ValueError: the choices need validation images, which there are none of, or a tally that no site tells.
    """
    training = choices.training
    if not validated:
        for setting, wanted in (("keep", training.keep is Keep.BEST), ("patience_epochs", training.patience_epochs)):
            if wanted:
                raise ValueError(
                    f"training.{setting} = {getattr(training, setting)}, but no site has a validation picture; set "
                    "validation_share in [data], or leave it out"
                )
    rule = KeepRule(
        best=validated and training.keep is not Keep.LAST,
        higher_is_better=METRICS[training.keep_by].higher_is_better,
        patience=training.patience_epochs,
    )
    tally = METRICS[training.keep_by].tally
    if (rule.best or rule.patience is not None) and tally not in choices.metrics.tallies:
        raise ValueError(
            f'training.keep_by = "{training.keep_by}" is made of the tally "{tally}", which metrics.tallies leaves '
            "out; add it, or choose another metric"
        )
    return rule
