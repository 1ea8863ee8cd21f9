"""An intake for tests, on a clock that moves when it is told to, and a site that answers it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from compute_node.feeding.intake import Intake
from compute_node.feeding.sample_cache import SampleCache
from compute_node.layers.layer_bank import LayerBank
from mple.plan import GlobalSampler, RunPlan
from mple.v1 import common_pb2, compute_pb2
from mple.wire.batch import Batch, batch_to_message
from mple.wire.codec import EncodedSamples
from mple.wire.codecs import codec_named
from tests.support.small_plan import TRAIN, key_ref
from tests.support.tallies import score_of

BLOCKS, VALUES = 4, 64
IDLE_S = 30.0
CODEC = codec_named("q8")


def awaited(intake: Intake, site: str) -> compute_pb2.FeedResponse:
    """The next message to a site, once there is one."""
    give_up_at = time.monotonic() + 30
    while (message := intake.next_message(site)) is None:
        assert time.monotonic() < give_up_at
        time.sleep(0.005)
    return message


class Clock:
    """Stands still until told; remembers whether it was looked at since."""

    def __init__(self) -> None:
        self._now = 0.0
        self._changed = threading.Condition()
        self._seen = False

    def __call__(self) -> float:
        with self._changed:
            self._seen = True
            self._changed.notify_all()
            return self._now

    def set(self, now: float) -> None:
        with self._changed:
            self._now, self._seen = now, False

    def wait_until_seen(self) -> None:
        """Return once somebody has looked at it since it was set."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._seen, timeout=30)


@dataclass
class OpenIntake:
    """An intake with what belongs to it."""

    intake: Intake
    cache: SampleCache
    plan: RunPlan
    clock: Clock
    changed: threading.Condition
    bank: LayerBank

    def pass_time(self, start: int, end: int) -> None:
        """Let seconds go by, one after the other, while somebody waits and looks."""
        for now in range(start + 1, end + 1):
            self.clock.set(float(now))
            with self.changed:
                self.changed.notify_all()
            self.clock.wait_until_seen()

    def want(self) -> GlobalSampler:
        sizes = [site.train_images for site in self.plan.sites]
        sampler = GlobalSampler(sizes, 4, seed=1)
        self.intake.want_missing(sampler, 0)
        return sampler

    def request(self, site: str) -> compute_pb2.SampleRequest:
        message = self.intake.next_message(site)
        assert message is not None
        assert message.WhichOneof("message") == "samples"
        return message.samples

    def feed(self, site: str) -> int:
        """Answer all that a site is asked and return how many samples that were."""
        count = 0
        while (message := self.intake.next_message(site)) is not None:
            self.intake.take_batch(site, answer(site, message.samples))
            count += len(message.samples.sample_ids)
        return count


def answer(site: str, request: compute_pb2.SampleRequest, **changed: Any) -> common_pb2.MorphedBatch:
    """A batch whose codes are the samples' numbers."""
    numbers = np.array(request.sample_ids)
    codes = np.repeat(numbers[:, None], VALUES, axis=1).astype(np.int8)
    labels = (numbers % 3).astype(np.uint16) if request.split == TRAIN else np.empty(0, np.uint16)
    batch = Batch(EncodedSamples(codes, np.zeros((len(numbers), BLOCKS), np.uint8)), labels)
    known: dict[str, Any] = {
        "request_id": request.request_id,
        "key_ref": key_ref(site),
        "split": request.split,
        "codec": CODEC,
    }
    return batch_to_message(batch, **(known | changed))


def score(logits: compute_pb2.Logits) -> compute_pb2.Score:
    """A score of all samples of a message, none of them right."""
    return score_of(logits.request_id, epoch=logits.epoch, samples=len(logits.sample_ids))
