"""Predictions as text for people and as JSON for programs. Pure.

Legend: N pictures, C classes.
"""

import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mple.metrics import Outputs, probabilities, tallies, values
from mple.printable import printable

_SHOWN_CLASSES = 3


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a run's network says of pictures."""

    run_id: str
    plan_sha256: str
    """Hexadecimal."""
    classes: tuple[str, ...]
    names: tuple[str, ...]
    logits_NC: NDArray[np.float64]
    labels: NDArray[np.int64] | None
    """True class numbers (N), where they are known."""

    @property
    def scores(self) -> dict[str, float]:
        """By metric; empty where the true classes are not known."""
        if self.labels is None:
            return {}
        return values(tallies(self.logits_NC, self.labels, self._outputs), self._outputs)

    @cached_property
    def probabilities_NC(self) -> NDArray[np.float64]:
        """Of each class for each picture."""
        return probabilities(self.logits_NC, self._outputs)

    @property
    def _outputs(self) -> Outputs:
        return Outputs(len(self.classes))

    def likeliest(self, number: int, count: int) -> list[int]:
        """The `count` likeliest classes of a picture, the likeliest first."""
        order = np.argsort(-self.probabilities_NC[number], kind="stable")
        return [int(place) for place in order[:count]]


def as_text(predictions: Predictions, top: int | None) -> str:
    """A line for each picture with its `top` likeliest classes, three by default; then the scores, if known."""
    count = min(top or _SHOWN_CLASSES, len(predictions.classes))
    classes = [printable(name) for name in predictions.classes]
    names = [printable(name) for name in predictions.names]
    name_width, class_width = max(map(len, names)), max(map(len, classes))
    lines = []
    for number, name in enumerate(names):
        cells = [name.ljust(name_width)]
        if predictions.labels is not None:
            cells.append(f"is {classes[int(predictions.labels[number])]:{class_width}}")
        for place in predictions.likeliest(number, count):
            cells.append(f"{classes[place]:{class_width}} {predictions.probabilities_NC[number, place]:.4f}")
        lines.append("  ".join(cells))
    if scores := predictions.scores:
        words = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
        lines.append(f"{words}, over {len(names)} pictures")
    return "\n".join(lines) + "\n"


def as_json(predictions: Predictions, top: int | None) -> str:
    """One object: `run_id, plan_sha256, classes, predictions[{image, class, probabilities{class: p}}]`. `probabilities`
    holds the `top` likeliest classes, all by default, in descending order. Where labels are known each prediction has
    `label` too, and the object `scores`, by metric."""
    classes, count = predictions.classes, top or len(predictions.classes)
    rows: list[dict[str, object]] = []
    for number, name in enumerate(predictions.names):
        places = predictions.likeliest(number, count)
        row: dict[str, object] = {"image": name, "class": classes[places[0]]}
        if predictions.labels is not None:
            row["label"] = classes[int(predictions.labels[number])]
        row["probabilities"] = {classes[place]: float(predictions.probabilities_NC[number, place]) for place in places}
        rows.append(row)
    whole: dict[str, object] = {
        "run_id": predictions.run_id,
        "plan_sha256": predictions.plan_sha256,
        "classes": classes,
        "predictions": rows,
    }
    if scores := predictions.scores:
        whole["scores"] = scores
    return json.dumps(whole, indent=2) + "\n"
