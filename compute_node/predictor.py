"""The trained network's answers to morphed images, for sites after training; and again after a restart, from what the
state folder keeps of the last finished run: plan, outcome, layers and network. No coordinator is needed for that.

Legend: B samples, K blocks, Q core side, C classes.
"""

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from compute_node.feeding.accepted_batch import accept_batch
from compute_node.layers.layer_bank import ErasedKeyError, LayerBank
from compute_node.layers.restore import listed_layers
from compute_node.training.features import features
from mple.disk.damage import DamagedError
from mple.disk.json_records import read_record
from mple.disk.scarcity import scarcity_of
from mple.model.device import CPU, Device
from mple.model.weights import build_trunk, load_trunk, state_sha256
from mple.plan import RunPlan
from mple.records.plan_file import kept_plan
from mple.records.state_files import LAYERS, MODEL, OUTCOME
from mple.records.training import Outcome
from mple.rpc import ErrorCode, MpleError
from mple.v1 import common_pb2, compute_pb2
from mple.wire.batch import samples_per_message
from mple.wire.codecs import codec_named

TRAINED_AGAIN = (
    f"put the file back as it was, or remove {OUTCOME}: the network is then trained again, while the run lasts"
)
"""The way out of a network or an outcome that is damaged."""


class Predictor:
    """A trunk with the layers of a run; one question at a time."""

    def __init__(self, plan: RunPlan, trunk: nn.Module, bank: LayerBank) -> None:
        self._plan, self._trunk, self._bank = plan, bank.device.place_module(trunk).eval(), bank
        sample_bytes = codec_named(plan.wire.codec).planned_bytes(plan.geometry)
        # Few bytes may be packed codes of very many samples, so their number is what bounds the memory for them.
        self._most_samples = samples_per_message(plan.wire.message_bytes, sample_bytes)
        self._busy = threading.Lock()

    @torch.no_grad()
    def answer(self, message: common_pb2.MorphedBatch, site: str) -> compute_pb2.PredictResponse:
        """Logits for a batch, in the permuted class order: features in the run's arithmetic, the trunk in float32.

        Raises MpleError: the batch is malformed, too large, or names a key that is not the site's or is revoked;
        DIVERGED when the network has no finite answer.
        """
        if not 1 <= message.samples <= self._most_samples:
            text = f"{message.samples} samples; allowed are 1 to {self._most_samples}"
            raise MpleError(ErrorCode.MESSAGE_MALFORMED, text)
        count = message.samples
        batch, key = accept_batch(self._plan, self._bank, message, site, samples=count, labelled=False)
        t_BKQ = torch.from_numpy(self._bank.codec(key).decode(batch.coded, self._plan.geometry.blocks))
        with self._busy:
            try:
                f_BFHW = features(t_BKQ, np.full(count, key, np.int64), self._bank.layers)
            except ErasedKeyError:
                raise MpleError(ErrorCode.UNKNOWN_KEY_REF, "the key has just been revoked") from None
            logits_BC = self._trunk(f_BFHW.float()).cpu().numpy()
        if not np.isfinite(logits_BC).all():
            raise MpleError(ErrorCode.DIVERGED, "the network answers these pictures with NaN or infinity")
        return compute_pb2.PredictResponse(
            request_id=message.request_id, classes=logits_BC.shape[1], values=logits_BC.astype("<f4").tobytes()
        )


@dataclass(frozen=True, slots=True)
class RestoredRun:
    """A finished run that can answer."""

    plan: RunPlan
    predictor: Predictor


def restored_run(state: Path, device: Device = CPU) -> RestoredRun | None:
    """The finished run of a state folder, or None when its last run has not finished.

    Raises ValueError: the run has finished, but a file of it is missing, damaged or another run's.
    """
    plan = kept_plan(state)
    if plan is None or not (state / OUTCOME).exists():
        return None
    outcome = read_record(Outcome, state / OUTCOME, TRAINED_AGAIN)
    if outcome.plan_sha256 != plan.sha256().hex():
        return None
    bank = listed_layers(state / LAYERS, plan, device)
    trunk = build_trunk(plan.model, len(plan.classes), plan.training.seed)
    load_outcome(trunk, state / MODEL, outcome)
    return RestoredRun(plan, Predictor(plan, trunk, bank))


def load_outcome(trunk: nn.Module, path: Path, outcome: Outcome) -> None:
    """Read the weights that a training has come to. Raises DamagedError: the file is gone, or holds others."""
    try:
        load_trunk(trunk, path)
    except (OSError, ValueError) as fault:
        if scarcity_of(fault) is not None:
            raise
        raise DamagedError(path, f"can't be read: {fault}", TRAINED_AGAIN) from None
    if state_sha256(trunk) != outcome.model_sha256:
        text = f"is damaged: it differs from the network that run {outcome.run_id} trained"
        raise DamagedError(path, text, TRAINED_AGAIN)
