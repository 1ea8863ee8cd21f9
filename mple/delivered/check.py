"""What a site finds when it asks the plain network about plain pictures of its own, and compares that with what the
compute node's trunk has answered to their morphed forms.

Legend: B pictures, C classes or labels.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from mple.model.settings import Precision, TaskKind
from mple.morph import Arithmetic
from mple.plan import DeliveredDtype, PrivacyMode, RunPlan
from mple.ranges import Between, Ranged

_TOLERANCE = 1e-4


class Verdict(StrEnum):
    """What the comparison says."""

    AGREES = "agrees"
    """All answers are equal within the tolerance."""
    CODED = "coded"
    """What travels is rounded, or has noise, by the run's settings, so that answers differ; by how much is stated."""
    DIFFERS = "differs"
    """Answers differ by more than the settings explain: the network is not the one that was scored."""
    UNCHECKED = "unchecked"
    """There was nothing to compare with; the reason is stated."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check(Ranged):
    """The comparison."""

    verdict: Verdict
    reason: str = ""
    """Why it is unchecked, or what makes answers differ."""
    split: str = ""
    """Which of the site's splits the pictures are of: `test` or `val`."""
    pictures: Annotated[int, Between(0, 1_000_000_000)] = 0
    largest_difference: float | None = None
    """Between two logits."""
    tolerance: float | None = None
    """Largest difference that counts as equal: 1e-4, or of logits above 1 that part of the largest."""
    same_answers: Annotated[int, Between(0, 1_000_000_000)] = 0
    """Pictures with the same likeliest class; of a task of labels, with the same labels above one half."""

    def text(self) -> str:
        """In a sentence."""
        if self.verdict is Verdict.UNCHECKED:
            return f"unchecked: {self.reason}"
        words = {Verdict.AGREES: "the same answers", Verdict.CODED: "answers that differ by what is rounded or noise"}
        text = (
            f"{words.get(self.verdict, 'other answers')} on {self.pictures} of the site's own {self.split} pictures as "
            f"the trunk on their morphed forms: largest difference of logits {self.largest_difference:.1e}, the same "
            f"decision on {self.same_answers} of {self.pictures}"
        )
        return text + (f" ({self.reason})" if self.reason else "")


def roundings(plan: RunPlan) -> str:
    """Which of a plan's settings make the trunk's answers differ from the plain network's; empty where none does."""
    training = plan.training
    found = {
        f'wire.codec = "{plan.wire.codec}"': plan.wire.codec != "f32",
        f"layers in {plan.layer_dtype}": plan.layer_dtype != "f32",
        f"training in {training.precision}": training.precision is not Precision.F32,
        f"layers applied in {training.first_layer}": training.first_layer is not Arithmetic.F32,
        f"delivered in {plan.delivery.dtype}": plan.delivery.dtype is not DeliveredDtype.F32,
        "the trunk saw pictures with noise, the network is asked without": plan.privacy.mode is PrivacyMode.NOISE,
    }
    return ", ".join(text for text, holds in found.items() if holds)


def compare_answers(plan: RunPlan, split: str, plain_BC: NDArray[np.float32], told_BC: NDArray[np.float32]) -> Check:
    """Compare logits of the same pictures, both in the site's own order of classes: the plain network's, and those that
    the site was told."""
    difference_BC = plain_BC.astype(np.float64) - told_BC
    largest = float(np.abs(difference_BC).max())
    tolerance = _TOLERANCE * max(1.0, float(np.abs(told_BC).max()))
    if plan.task.kind is TaskKind.LABELS:
        same_B = ((plain_BC > 0) == (told_BC > 0)).all(axis=1)
    else:
        same_B = plain_BC.argmax(axis=1) == told_BC.argmax(axis=1)
    reason = roundings(plan)
    if not reason:
        verdict = Verdict.AGREES if largest <= tolerance else Verdict.DIFFERS
    elif plan.privacy.mode is PrivacyMode.NONE and _rms(difference_BC) > _rms(told_BC - told_BC.mean()):
        verdict = Verdict.DIFFERS  # as far off as answers to other pictures, or of other classes, would be
    else:
        verdict = Verdict.CODED
    return Check(
        verdict=verdict,
        reason=reason,
        split=split,
        pictures=len(plain_BC),
        largest_difference=largest,
        tolerance=tolerance,
        same_answers=int(same_B.sum()),
    )


def _rms(values: NDArray[np.floating]) -> float:
    return math.sqrt(float(np.mean(np.square(values, dtype=np.float64))))
