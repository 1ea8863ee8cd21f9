"""Scoring the network's answers at the site, so that test labels never leave it. Pure.

Legend: B samples, C classes.
"""

import numpy as np
from numpy.typing import NDArray

from mple.data.images import task_of
from mple.metrics import Outputs, tallies
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


def score(logits: compute_pb2.Logits, labels: NDArray[np.int64], label_order: NDArray[np.int64]) -> compute_pb2.Score:
    """The tallies of the samples of a message.

    Args:
        logits: The message; its sample numbers lie within its split.
        labels: Of the whole split.
        label_order: The run's.

    Raises LogitsError: the message is malformed or names a sample that the site does not have.
    """
    samples = np.asarray(logits.sample_ids, np.int64)
    if samples.size == 0 or samples.max() >= len(labels):
        raise LogitsError(f"logits for {samples.size} samples up to number {samples.max(initial=-1)} of {len(labels)}")
    if len(np.unique(samples)) != samples.size:
        raise LogitsError("the logits name a sample twice")
    if logits.classes != len(label_order):
        raise LogitsError(f"logits for {logits.classes} classes; the run has {len(label_order)}")
    plain_BC = plain_logits(logits.values, len(samples), label_order)
    made = tallies(plain_BC, labels[samples], Outputs(len(label_order), task_of(labels))).items()
    return compute_pb2.Score(
        request_id=logits.request_id,
        epoch=logits.epoch,
        split=logits.split,
        samples=len(samples),
        tallies={name: common_pb2.Tally(counts=tally.counts, sums=tally.sums) for name, tally in made},
    )
