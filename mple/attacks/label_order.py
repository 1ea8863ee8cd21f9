"""Which class each permuted label means: classes look different, and permuting their names does not change how.

Pictures are recovered from morphed ones alone (`ciphertext_only`), coarsely. On labelled public pictures a linear
discriminant (Fisher, 1936) learns the classes; every wire label is held against every class by the mean score of its
pictures, and the best one-to-one assignment is the order. Averaged over hundreds of pictures even a poor discriminant
does not err. Class counts that differ would tell the same without any picture.

Legend: N pictures, P public pictures, D values of a coarse picture, Y classes.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from mple.attacks import ciphertext_only
from mple.attacks.lab.adversary import Outsider
from mple.attacks.lab.attack import Attack, AttackSettings, DoesNotApplyError, Figure, Finding
from mple.attacks.lab.ground_truth import GroundTruth
from mple.attacks.lab.run_views import OUTSIDER
from mple.plan import TaskKind

_MOST_PICTURES = 4096
_COARSE_PX = 8
_SHRINKAGE = 0.05
_CLAIM = "label_order_Y"

Values = NDArray[np.float64]


def run(view: Outsider, settings: AttackSettings) -> Finding:
    """Assign a class to every label on the wire.

    Raises DoesNotApplyError: the task is of several labels, public pictures bear no labels, or pictures can't be
    recovered.
    """
    classes = len(view.plan.classes)
    if view.plan.task.kind is TaskKind.LABELS:
        raise DoesNotApplyError("it is for a task of classes")
    if len(view.public_labels_P) != len(view.public_PCHW) or len(set(view.public_labels_P.tolist())) < classes:
        raise DoesNotApplyError("public pictures of all classes with their labels are needed")
    recovered = ciphertext_only.run(view, replace(settings, pictures=_MOST_PICTURES)).recovered[-1]
    labels_N = view.morphed.labels_N[: len(recovered.numbers_N)]
    score_NY = class_scores(coarse(recovered.pixels_NCHW), coarse(view.public_PCHW), view.public_labels_P, classes)
    mean_YY = np.stack([score_NY[labels_N == wire].mean(0) if (labels_N == wire).any() else np.zeros(classes)
                        for wire in range(classes)])  # fmt: skip
    order_Y = best_assignment(-mean_YY)
    margin = np.sort(mean_YY, axis=1)
    figures = (
        Figure("pictures used", len(labels_N)),
        Figure("least lead of a label's best class", round(float((margin[:, -1] - margin[:, -2]).min()), 4)),
    )
    return Finding(claims={_CLAIM: order_Y}, figures=figures)


def score(finding: Finding, truth: GroundTruth) -> Sequence[Figure]:
    """How many labels are named rightly."""
    right = int((finding.claims[_CLAIM] == truth.label_order).sum())
    return (Figure("labels named rightly", f"{right} of {len(truth.label_order)}"),)


def coarse(pixels_NCHW: NDArray[np.float32] | NDArray[np.uint8]) -> Values:
    """Pictures of 8 x 8 pixels at most, as rows."""
    small = functional.adaptive_avg_pool2d(
        torch.from_numpy(pixels_NCHW).float(), tuple(min(_COARSE_PX, side) for side in pixels_NCHW.shape[2:])
    )
    rows: Values = small.flatten(1).double().numpy()
    return rows


def class_scores(rows_ND: Values, public_PD: Values, labels_P: NDArray[np.int64], classes: int) -> Values:
    """Logarithms of the classes' probabilities (N, Y) for each row, all classes being equally frequent."""
    mean_YD = np.stack([public_PD[labels_P == number].mean(0) for number in range(classes)])
    within_PD = public_PD - mean_YD[labels_P]
    covariance_DD = within_PD.T @ within_PD / len(within_PD)
    ridge_DD = np.eye(len(covariance_DD)) * np.trace(covariance_DD) / len(covariance_DD)
    weight_DY = np.linalg.solve((1 - _SHRINKAGE) * covariance_DD + _SHRINKAGE * ridge_DD, mean_YD.T)
    raw_NY = rows_ND @ weight_DY - 0.5 * np.einsum("yd,dy->y", mean_YD, weight_DY)
    raw_NY -= raw_NY.max(axis=1, keepdims=True)
    scores: Values = raw_NY - np.log(np.exp(raw_NY).sum(axis=1, keepdims=True))
    return scores


def best_assignment(cost_YY: Values) -> NDArray[np.int64]:
    """The column of each row, each column once, with the least sum (Kuhn, 1955, by shortest augmenting paths)."""
    size = len(cost_YY)
    row_price, column_price = np.zeros(size + 1), np.zeros(size + 1)
    row_of = np.zeros(size + 1, np.int64)  # rows and columns count from 1; 0 is no row
    for row in range(1, size + 1):
        row_of[0], column = row, 0
        least, before = np.full(size + 1, np.inf), np.zeros(size + 1, np.int64)
        done = np.zeros(size + 1, np.bool_)
        while row_of[column]:
            done[column] = True
            current = row_of[column]
            free = np.flatnonzero(~done[1:]) + 1
            reduced = cost_YY[current - 1, free - 1] - row_price[current] - column_price[free]
            nearer = reduced < least[free]
            least[free[nearer]], before[free[nearer]] = reduced[nearer], column
            following = int(free[np.argmin(least[free])])
            step = least[following]
            row_price[row_of[done]] += step
            column_price[done] -= step
            least[free] -= step
            column = following
        while column:
            row_of[column] = row_of[before[column]]
            column = int(before[column])
    order = np.zeros(size, np.int64)
    order[row_of[1:] - 1] = np.arange(size)
    return order


ATTACK = Attack.by(
    name="label-order",
    adversary=OUTSIDER,
    claim="names the permuted labels, by what pictures of each class have in common",
    run=run,
    score=score,
)
