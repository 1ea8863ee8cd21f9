"""The losses of both tasks: against torch's own, by hand, and that unknown labels have no say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mple.model.class_weights import ClassCounts, class_weights
from mple.model.loss import TaskLoss
from mple.model.settings import ClassWeights, ModelSettings, TaskKind, TaskSettings, TrainingSettings
from mple.model.training import TrunkTrainer
from mple.model.weights import build_trunk, state_sha256

CLASSES = torch.tensor([0, 2, 1, 1, 2, 2])
LABELS = torch.tensor([[1, 0, -1], [0, -1, 1], [-1, -1, -1], [1, 1, 0]])
INVERSE = TaskSettings(class_weights=ClassWeights.INVERSE)
LABELS_TASK = TaskSettings(kind=TaskKind.LABELS)


def logits(rows: int, columns: int = 3) -> Tensor:
    """Of one seed, to be differentiated by."""
    made = torch.randn(rows, columns, generator=torch.Generator().manual_seed(5)) * 3
    return made.requires_grad_()


def gradient(loss: TaskLoss, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient by the scores."""
    scores = scores.detach().clone().requires_grad_()
    value = loss(scores, labels)
    (slope,) = torch.autograd.grad(value, scores)
    return value.detach(), slope


def test_without_weights_classes_have_torchs_own_loss_to_the_last_bit() -> None:
    assert torch.equal(TaskLoss()(logits(6), CLASSES), functional.cross_entropy(logits(6), CLASSES))


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_smoothed_classes_have_the_loss_of_spread_labels_which_is_torchs(smoothing: float) -> None:
    spread_BC = torch.nn.functional.one_hot(CLASSES, 3) * (1 - smoothing) + smoothing / 3
    one_by_one = -(spread_BC * torch.log_softmax(logits(6).detach(), 1)).sum(1)
    found = TaskLoss()(logits(6), CLASSES, smoothing)
    assert float(found.detach()) == pytest.approx(float(one_by_one.mean()), rel=1e-6)
    assert torch.equal(found, torch.nn.CrossEntropyLoss(label_smoothing=smoothing)(logits(6), CLASSES))
    weighted = TaskLoss.of(INVERSE, ClassCounts.of(CLASSES.numpy(), 3))
    assert weighted.weights is not None
    due = float((weighted.weights[CLASSES] * one_by_one).mean())
    assert float(weighted(logits(6), CLASSES, smoothing).detach()) == pytest.approx(due, rel=1e-6)


def test_smoothed_labels_are_those_of_two_classes_there_and_absent() -> None:
    """A sigmoid is a softmax of two; torch smooths that. Unknown labels stay without influence."""
    scores, known = logits(4).detach(), LABELS >= 0
    pairs = torch.stack([torch.zeros_like(scores), scores], dim=1)
    theirs_BL = functional.cross_entropy(pairs, LABELS.clamp(min=0), reduction="none", label_smoothing=0.2)
    value = TaskLoss(TaskKind.LABELS)(scores.requires_grad_(), LABELS, 0.2)
    assert float(value.detach()) == pytest.approx(float(theirs_BL[known].mean()), rel=1e-6)
    (slope,) = torch.autograd.grad(value, scores)
    assert (slope[~known] == 0).all()
    assert (slope[known] != 0).all()


def test_a_training_smooths_its_labels() -> None:
    first = []
    for smoothing in (0.0, 0.3):
        settings = TrainingSettings(label_smoothing=smoothing)
        trunk = build_trunk(ModelSettings(width=0.0625), 3, 1)
        with torch.no_grad():
            trunk.get_parameter("classifier.3.bias").copy_(torch.tensor([0.0, 4.0, 8.0]))
        f_BFHW = torch.randn(6, 8, 28, 28, generator=torch.Generator().manual_seed(1))
        first.append(TrunkTrainer(trunk, settings, 10).step(f_BFHW, CLASSES))
    # Scores are near 0, 4 and 8 in all samples: spreading raises the loss by 0.3 times what the right ones are above 4.
    assert first[1] - first[0] == pytest.approx(0.3 * ((0 + 8 + 4 + 4 + 8 + 8) / 6 - 4), abs=0.05)


def test_a_weighted_class_counts_as_often_as_its_weight_says() -> None:
    """Three, two and one sample: each class has a third of the whole, so weights of 6/(3*1), 6/(3*2), 6/(3*3)."""
    weights = class_weights(INVERSE, ClassCounts.of(CLASSES.numpy(), 3))
    assert weights is not None
    assert weights.tolist() == pytest.approx([2, 1, 2 / 3], abs=1e-15)
    one_by_one = functional.cross_entropy(logits(6), CLASSES, reduction="none").tolist()
    due = sum(weights[label] * one for label, one in zip(CLASSES.tolist(), one_by_one, strict=True)) / 6
    loss = TaskLoss.of(INVERSE, ClassCounts.of(CLASSES.numpy(), 3))
    assert float(loss(logits(6).detach(), CLASSES)) == pytest.approx(due, rel=1e-6)
    # Over all samples the weights' mean is 1, so that torch's weighted mean is the same here.
    theirs = functional.cross_entropy(logits(6), CLASSES, weight=loss.weights)
    assert float(theirs.detach()) == pytest.approx(due, rel=1e-6)


def test_effective_numbers_are_those_of_the_paper() -> None:
    """E(n) = (1 - b^n)/(1 - b): 1, 1.5, 1.75 and so on for b = 0.5; a class without samples is left at 1."""
    task = TaskSettings(class_weights=ClassWeights.EFFECTIVE, effective_beta=0.5)
    weights = class_weights(task, ClassCounts(having=(1, 2, 3, 0)))
    raw = [1 / 1, 1 / 1.5, 1 / 1.75]
    scale = 6 / (raw[0] + 2 * raw[1] + 3 * raw[2])
    assert weights is not None
    assert weights.tolist() == pytest.approx([*(scale * one for one in raw), 1], rel=1e-12)
    near_one = TaskSettings(class_weights=ClassWeights.EFFECTIVE, effective_beta=1 - 1e-12)
    inverse = class_weights(INVERSE, ClassCounts(having=(10, 500)))
    np.testing.assert_allclose(class_weights(near_one, ClassCounts(having=(10, 500))), inverse, rtol=1e-6)


def test_labels_have_torchs_own_loss_over_those_that_are_known() -> None:
    scores = logits(4)
    known = LABELS >= 0
    theirs = functional.binary_cross_entropy_with_logits(scores[known], LABELS[known].float())
    value, slope = gradient(TaskLoss.of(LABELS_TASK), scores, LABELS)
    assert float(value) == pytest.approx(float(theirs.detach()), rel=1e-6)
    by_hand = [
        math.log1p(math.exp(-x if y else x))
        for x, y in zip(scores[known].tolist(), LABELS[known].tolist(), strict=True)
    ]
    assert float(value) == pytest.approx(sum(by_hand) / 7, rel=1e-6)
    (due,) = torch.autograd.grad(theirs, scores)
    torch.testing.assert_close(slope, due)


@pytest.mark.parametrize("weighted", [False, True])
def test_unknown_labels_change_nothing_to_the_last_bit(weighted: bool) -> None:
    """Neither what they hold nor what the network says there, be it NaN, has a say in value or gradients."""
    task = TaskSettings(kind=TaskKind.LABELS, class_weights=ClassWeights.INVERSE if weighted else ClassWeights.NONE)
    loss = TaskLoss.of(task, ClassCounts.of(LABELS.numpy(), 3))
    value, slope = gradient(loss, logits(4), LABELS)
    unknown = LABELS < 0
    assert not slope[unknown].any()
    assert slope[~unknown].all()
    for holds, said in ((-7, 0.0), (-1, 1e30), (-1, math.nan)):
        other = gradient(loss, logits(4).detach().masked_fill(unknown, said), LABELS.masked_fill(unknown, holds))
        assert torch.equal(other[0], value)
        assert torch.equal(other[1], slope)


def test_a_batch_of_unknown_labels_teaches_nothing() -> None:
    value, slope = gradient(TaskLoss.of(LABELS_TASK), logits(4), torch.full((4, 3), -1))
    assert float(value) == 0
    assert not slope.any()


def test_weights_of_labels_keep_torchs_ratio_and_a_mean_of_one() -> None:
    """Of 10 known samples 2 have the first label: 10/4 for those, 10/16 for others, in the ratio of pos_weight = 4."""
    task = TaskSettings(kind=TaskKind.LABELS, class_weights=ClassWeights.INVERSE)
    weights = class_weights(task, ClassCounts(having=(2, 5, 0), known=(10, 8, 4)))
    assert weights is not None
    np.testing.assert_allclose(weights, [[0.625, 8 / 6, 1], [2.5, 0.8, 1]], rtol=1e-14)
    labels = torch.tensor([[1.0, 0, 0], [0, 1, 0]])
    ours = TaskLoss(TaskKind.LABELS, torch.from_numpy(weights).float())(logits(2), labels.long())
    theirs = functional.binary_cross_entropy_with_logits(
        logits(2), labels, pos_weight=torch.tensor([4.0, 0.6, 1]), weight=torch.tensor([0.625, 8 / 6, 1])
    )
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-6)


def test_counts_add_up_over_sites_and_leave_out_unknown_labels() -> None:
    counts = ClassCounts.of(LABELS.numpy(), 3)
    assert counts == ClassCounts(having=(2, 1, 1), known=(3, 2, 2))
    assert counts + counts == ClassCounts(having=(4, 2, 2), known=(6, 4, 4))
    assert ClassCounts.of(CLASSES.numpy(), 4) == ClassCounts(having=(1, 2, 3, 0))


def test_weights_without_counts_are_refused() -> None:
    with pytest.raises(ValueError, match=r'class_weights = "inverse" without counts'):
        TaskLoss.of(INVERSE)


def test_a_beta_that_would_change_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r'effective_beta = 0\.9 with class_weights = "inverse"'):
        TaskSettings(class_weights=ClassWeights.INVERSE, effective_beta=0.9)


def test_training_by_labels_moves_only_what_known_labels_reach() -> None:
    """A label that is unknown of every sample: its row of the last layer stays where it began, bit for bit."""
    model, settings = ModelSettings(width=0.0625), TrainingSettings(weight_decay=0.0)
    f_BFHW = torch.randn(4, model.filters, 28, 28, generator=torch.Generator().manual_seed(1))

    def trained(labels: Tensor) -> tuple[str, Tensor, Tensor]:
        trunk = build_trunk(model, 3, 1)
        before = trunk.state_dict()
        (last,) = [name for name, one in before.items() if one.shape[:1] == (3,) and one.ndim == 2]
        first = before[last].clone()
        trainer = TrunkTrainer(trunk, settings, 10, loss=TaskLoss.of(LABELS_TASK))
        for _ in range(2):
            trainer.step(f_BFHW, labels)
        return state_sha256(trunk), first, trunk.state_dict()[last]

    hidden = LABELS.clone()
    hidden[:, 2] = -1
    digest, before, after = trained(hidden)
    assert torch.equal(before[2], after[2])
    assert not torch.equal(before[:2], after[:2])
    assert digest == trained(hidden.where(hidden >= 0, -3))[0]
    assert digest != trained(LABELS)[0]
