"""The trained network's answers to morphed images, for sites after training.

Legend: B samples, K blocks, Q core side, C classes.
"""

from __future__ import annotations

import threading

import numpy as np
import torch

from compute_node.features import features
from compute_node.layer_bank import ErasedKeyError, LayerBank, UnknownKeyError
from compute_node.sample_cache import CachedSamples
from mple.model import Vgg16Trunk
from mple.plan import RunPlan
from mple.rpc import ErrorCode, MpleError
from mple.v1 import common_pb2, compute_pb2
from mple.wire import BatchError, EncodedSamples, batch_from_message, codec_named

MOST_SAMPLES = 1024


class Predictor:
    """A trunk with the layers of a run; one question at a time."""

    def __init__(self, plan: RunPlan, trunk: Vgg16Trunk, bank: LayerBank) -> None:
        self._plan, self._trunk, self._bank = plan, trunk.eval(), bank
        self._codec = codec_named(plan.wire.codec)
        self._busy = threading.Lock()

    @torch.no_grad()
    def answer(self, message: common_pb2.MorphedBatch, site: str) -> compute_pb2.PredictResponse:
        """Logits for a batch, in the permuted class order, computed in float32.

        Raises:
            MpleError: The batch is malformed, too large, or names a key that is not the site's or is revoked.
        """
        if not 1 <= message.samples <= MOST_SAMPLES:
            raise MpleError(ErrorCode.BATCH_MALFORMED, f"{message.samples} samples; allowed are 1 to {MOST_SAMPLES}")
        try:
            key = self._bank.number(message.key_ref, site)
            batch = batch_from_message(
                message,
                samples=message.samples,
                values=self._plan.geometry.morphed_elements,
                codec=self._codec,
                classes=len(self._plan.classes),
                labelled=False,
            )
        except UnknownKeyError as fault:
            raise MpleError(ErrorCode.UNKNOWN_KEY_REF, str(fault)) from None
        except BatchError as fault:
            code = ErrorCode.CHECKSUM_MISMATCH if fault.checksum else ErrorCode.BATCH_MALFORMED
            raise MpleError(code, str(fault)) from None
        count = message.samples
        # The batch's codes are views on the message, which torch must not be given: it takes writable memory only.
        coded = EncodedSamples(batch.coded.scales_B, batch.coded.codes_BV.copy())
        samples = CachedSamples(coded, np.zeros(count, np.int64), np.full(count, key, np.int64))
        with self._busy:
            try:
                f_BFHW = features(samples, self._bank.layers, self._codec, self._plan.geometry)
            except ErasedKeyError:
                raise MpleError(ErrorCode.UNKNOWN_KEY_REF, "the key has just been revoked") from None
            logits_BC = self._trunk(f_BFHW).float().numpy()
        return compute_pb2.PredictResponse(
            request_id=message.request_id, classes=logits_BC.shape[1], values=logits_BC.astype("<f4").tobytes()
        )
