"""Scoring the network's answers at the site, so that labels of validation and test pictures never leave it. Pure.

Legend: B samples of a message, N of a split, C classes or labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mple.data.images import task_of
from mple.metrics import TALLIES, Outputs, reordered
from mple.metrics.messages import to_messages
from mple.metrics.withholding import told
from mple.v1 import common_pb2, compute_pb2


class LogitsError(ValueError):
    """A logits message contradicts the plan or itself."""


def plain_logits(values: bytes, samples: int, label_order: NDArray[np.int64]) -> NDArray[np.float64]:
    """Class scores in the site's own class order.

    Args:
        values: binary32, samples * classes, in the permuted class order.
        samples: B.
        label_order: Permuted place j holds class `label_order[j]`.

    Raises LogitsError: the length is wrong or a value is not finite.
    """
    classes = len(label_order)
    if len(values) != 4 * samples * classes:
        raise LogitsError(f"{len(values)} bytes of logits for {samples} samples and {classes} classes")
    permuted_BC = np.frombuffer(values, "<f4").reshape(samples, classes).astype(np.float64)
    if not np.isfinite(permuted_BC).all():
        raise LogitsError("the logits hold NaN or infinity")
    plain_BC = np.empty_like(permuted_BC)
    plain_BC[:, label_order] = permuted_BC
    return plain_BC


class SplitScoring:
    """Gathers the logits of whole splits, message by message, and answers the last one of each with its tallies.

    Guarantees: nothing is told of a part of a split; no split is scored more often than `most`; what the site's least
    count forbids is not told.
    """

    def __init__(
        self,
        labels: Mapping[common_pb2.Split, NDArray[np.int64]],
        label_order: NDArray[np.int64],
        *,
        names: Sequence[str] = tuple(TALLIES),
        least_count: int = 1,
        epochs: int,
        most: Mapping[common_pb2.Split, int],
        keep: Callable[[common_pb2.Split, int, NDArray[np.float32]], None] = lambda split, epoch, logits_NC: None,
    ) -> None:
        """Score nothing yet.

        Args:
            labels: Of each split that is scored.
            label_order: The run's.
            names: The tallies that the plan names.
            least_count: The site's.
            epochs: Of the plan.
            most: How often each split is scored at most.
            keep: Is given the logits of each whole split, in the site's own class order, before its tallies are told.
        """
        self._labels, self._label_order, self._keep = labels, label_order, keep
        self._names, self._least_count = tuple(names), least_count
        self._epochs, self._most = epochs, most
        self._times = dict.fromkeys(labels, 0)
        self._part: _Part | None = None

    def forget_part(self) -> None:
        """The stream has broken: what was gathered of a split comes anew."""
        self._part = None

    def take(self, logits: compute_pb2.Logits) -> compute_pb2.Score:
        """Answer a message.

        Raises LogitsError: it is malformed, names a sample that the site does not have or a second time, or would be
        beyond the plan; nothing is gathered of it.
        """
        labels = self._labels.get(logits.split)
        if labels is None:
            raise LogitsError(f"logits of split {logits.split}; validation and test samples are scored")
        if not 1 <= logits.epoch <= self._epochs:
            raise LogitsError(f"logits of epoch {logits.epoch}; the plan has {self._epochs}")
        if self._times[logits.split] >= (most := self._most[logits.split]):
            raise LogitsError(f"a split was scored {most} times before; the plan allows no more")
        part = self._part
        if part is None or (part.split, part.epoch) != (logits.split, logits.epoch):
            part = _Part(logits.split, logits.epoch, len(labels), len(self._label_order))
        part.take(logits, self._label_order)
        self._part = part
        answer = compute_pb2.Score(
            request_id=logits.request_id, epoch=logits.epoch, split=logits.split, samples=len(logits.sample_ids)
        )
        if part.is_whole:
            self._part = None
            self._times[logits.split] += 1
            self._keep(part.split, part.epoch, part.logits_NC)
            self._tell(part, labels, answer)
        return answer

    def _tell(self, part: _Part, labels: NDArray[np.int64], answer: compute_pb2.Score) -> None:
        outputs = Outputs(len(self._label_order), task_of(labels))
        here = told(part.logits_NC.astype(np.float64), labels, outputs, self._names, self._least_count)
        tallies = to_messages(reordered(here.tallies, self._label_order, outputs))
        answer.MergeFrom(compute_pb2.Score(tallies=tallies))
        answer.withheld.extend(here.withheld)


class _Part:
    """The logits of a split so far."""

    def __init__(self, split: common_pb2.Split, epoch: int, samples: int, classes: int) -> None:
        self.split, self.epoch = split, epoch
        self.logits_NC = np.zeros((samples, classes), np.float32)
        self._here_N = np.zeros(samples, np.bool_)

    @property
    def is_whole(self) -> bool:
        return bool(self._here_N.all())

    def take(self, logits: compute_pb2.Logits, label_order: NDArray[np.int64]) -> None:
        samples, size = np.asarray(logits.sample_ids, np.int64), len(self._here_N)
        if samples.size == 0 or samples.max() >= size:
            raise LogitsError(f"logits for {samples.size} samples up to number {samples.max(initial=-1)} of {size}")
        if len(np.unique(samples)) != samples.size or self._here_N[samples].any():
            raise LogitsError("the logits name a sample twice")
        if logits.classes != len(label_order):
            raise LogitsError(f"logits for {logits.classes} classes; the run has {len(label_order)}")
        self.logits_NC[samples] = plain_logits(logits.values, len(samples), label_order)
        self._here_N[samples] = True
