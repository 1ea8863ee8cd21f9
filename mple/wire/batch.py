"""Morphed batches: from coded samples to the message that carries them, and back with every field checked.

Legend: B samples, V morphed values of one sample. A message's declared sizes are compared with what the plan says
and with the bytes that are there before anything is allocated.
"""

from dataclasses import dataclass

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from mple.v1 import common_pb2
from mple.wire.codec import Codec, CodeError, EncodedSamples
from mple.wire.label_form import LabelForm, WireLabels, label_bytes

_MOST_SAMPLES = 1024
NO_LABELS: NDArray[np.uint16] = np.empty(0, np.uint16)


class BatchError(ValueError):
    """A batch message contradicts the plan or itself; `checksum` tells damage from disagreement."""

    def __init__(self, text: str, *, checksum: bool = False) -> None:
        super().__init__(text)
        self.checksum = checksum


@dataclass(frozen=True, slots=True)
class Batch:
    """Coded samples of one site with their permuted labels (empty for other splits than train)."""

    coded: EncodedSamples
    labels_B: WireLabels


def samples_per_message(message_bytes: int, sample_bytes: int) -> int:
    """Most samples of one batch: as many as a message of the plan's size holds, at least one, 1024 at most. Entropy
    coding may make less of them on the wire; how much is not known before."""
    return max(1, min(_MOST_SAMPLES, message_bytes // sample_bytes))


def batch_to_message(
    batch: Batch,
    *,
    request_id: int,
    key_ref: common_pb2.KeyRef,
    split: common_pb2.Split,
    codec: Codec,
    resent_samples: int = 0,
) -> common_pb2.MorphedBatch:
    """The message for a batch; its CRC-32C covers codes and labels."""
    codes = codec.pack(batch.coded)
    labels = label_bytes(batch.labels_B)
    samples, values = batch.coded.codes_BV.shape
    return common_pb2.MorphedBatch(
        request_id=request_id,
        key_ref=key_ref,
        split=split,
        codec=codec.wire_id,
        samples=samples,
        values_per_sample=values,
        codes=codes,
        labels=labels,
        crc32c=_crc32c(codes, labels),
        resent_samples=resent_samples,
    )


def batch_from_message(
    message: common_pb2.MorphedBatch,
    *,
    samples: int,
    blocks: int,
    values: int,
    codec: Codec,
    labels: LabelForm | None,
) -> Batch:
    """Check a message against what was asked for and return its codes and labels, perhaps as views on its bytes.

    The answered request named as many `samples`; `blocks` and morphed `values` are those of one sample under the plan.
    `labels` is their form where they are due (train split), None where they are forbidden (other splits).

    Raises BatchError: codec, counts, byte lengths, checksum, codes, a value or a label is wrong.
    """
    if message.codec != codec.wire_id:
        raise BatchError(f"codec {message.codec} instead of the plan's {codec.name}")
    if message.samples != samples or message.values_per_sample != values:
        raise BatchError(f"{message.samples} x {message.values_per_sample} values instead of {samples} x {values}")
    if message.resent_samples > samples:
        raise BatchError(f"{message.resent_samples} of {samples} samples were sent before: that can't be")
    codes, due = message.codes, 0 if labels is None else labels.sample_bytes * samples
    if len(message.labels) != due:
        raise BatchError(f"{len(message.labels)} bytes of labels instead of {due}")
    if message.crc32c != _crc32c(codes, message.labels):
        raise BatchError(f"checksum of request {message.request_id} differs", checksum=True)
    try:
        coded = codec.unpack(codes, samples=samples, blocks=blocks, values=values)
    except CodeError as fault:
        raise BatchError(str(fault)) from None
    if labels is None:
        return Batch(coded, NO_LABELS)
    labels_B = labels.view(message.labels, samples)
    try:
        labels.check(labels_B)
    except ValueError as fault:
        raise BatchError(str(fault)) from None
    return Batch(coded, labels_B)


def _crc32c(*parts: bytes) -> int:
    value = 0
    for part in parts:
        value = google_crc32c.extend(value, part)
    return value
