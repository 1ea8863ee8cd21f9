"""What a network says of pictures: probabilities, what counts as present, and scores where the truth is known. Pure.

Legend: N pictures, C classes or labels.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mple.metrics import Outputs, probabilities
from mple.metrics.exact import Exact, exact_values
from mple.model.settings import TaskKind
from mple.records.site_scores import Threshold

_HALF = Threshold(chance=0.5, log_odds=0.0)


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a run's network says of pictures."""

    run_id: str
    plan_sha256: str
    """Hexadecimal."""
    classes: tuple[str, ...]
    """Or labels."""
    task: TaskKind
    names: tuple[str, ...]
    """Of the pictures."""
    logits_NC: NDArray[np.float64]
    labels: NDArray[np.int64] | None
    """True class numbers (N), or 0, 1 and -1 for unknown (N, C), where they are known."""
    thresholds: Mapping[str, Threshold] = field(default_factory=dict)
    """By label: from where on it counts as present; a probability of one half where there is none."""

    @property
    def several(self) -> bool:
        """Whether several labels may be true of a picture."""
        return self.task is TaskKind.LABELS

    @cached_property
    def probabilities_NC(self) -> NDArray[np.float64]:
        """Of each class for each picture; of labels each on its own."""
        return probabilities(self.logits_NC, self._outputs)

    @cached_property
    def scores(self) -> dict[str, Exact]:
        """The metrics that have a value, with 95 % intervals; empty where the truth is not known."""
        if self.labels is None:
            return {}
        found = exact_values(self.logits_NC, self.labels, self._outputs, self._log_odds)
        return {name: one for name, one in found.items() if one.value is not None}

    def threshold(self, place: int) -> Threshold:
        """From where on a label counts as present."""
        return self.thresholds.get(self.classes[place], _HALF)

    def likeliest(self, number: int, count: int) -> list[int]:
        """The `count` likeliest classes of a picture, the likeliest first."""
        order = np.argsort(-self.probabilities_NC[number], kind="stable")
        return [int(place) for place in order[:count]]

    def said(self, number: int) -> list[int]:
        """What the network says of a picture: its likeliest class; of labels those that count as present, the likeliest
        first, which may be none."""
        if not self.several:
            return self.likeliest(number, 1)
        odds_C = self.logits_NC[number]
        every = self.likeliest(number, len(self.classes))
        return [place for place in every if odds_C[place] >= self.threshold(place).log_odds]

    def true(self, number: int) -> list[int] | None:
        """What is true of a picture, as `said`; None where it is not known."""
        if self.labels is None:
            return None
        label = self.labels[number]
        return [int(place) for place in np.flatnonzero(label == 1)] if self.several else [int(label)]

    @property
    def _outputs(self) -> Outputs:
        return Outputs(len(self.classes), self.task)

    @property
    def _log_odds(self) -> NDArray[np.float64] | None:
        """Of the thresholds, where there are some."""
        if not self.thresholds:
            return None
        return np.array([one.log_odds if (one := self.thresholds.get(name)) else np.nan for name in self.classes])
