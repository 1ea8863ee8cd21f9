"""The compute node under fire: a plan of two sites, its intake with a trainer that wants scores, and a predictor."""

from __future__ import annotations

import random
import shutil
import threading
from pathlib import Path

import numpy as np
from google.protobuf.message import Message

from compute_node.feeding.intake import Intake
from compute_node.feeding.mirroring import Mirroring
from compute_node.feeding.sample_cache import SampleCache
from compute_node.layers.layer_bank import LayerBank
from compute_node.predictor import Predictor
from compute_node.service import ComputeService
from mple.meter import Ledger
from mple.model.stem import planned_stem
from mple.model.weights import build_trunk
from mple.morph.augmented import build_augmented_layer
from mple.plan import GlobalSampler, RunPlan, WireSettings
from mple.plan.orders import channel_order
from mple.records.cache_records import CacheShape
from mple.rpc import ErrorCode, MpleError, Party, Role, build_server
from mple.rpc.call import MESSAGE_IDLE_S
from mple.rpc.node_service import add_node_service
from mple.v1 import common_pb2, compute_pb2, compute_pb2_grpc
from mple.wire.batch import Batch, batch_to_message
from mple.wire.codec import EncodedSamples
from mple.wire.codecs import codec_named
from tests.fuzz.mutation import Mutator
from tests.fuzz.shots import Outcome, Shot, dial, fire
from tests.support.served import PartyTls
from tests.support.small_plan import CACHE_SECRET, TEST, TRAIN, key_of, key_ref, small_plan
from tests.support.tallies import score_of

SIZES = {"north": (60, 12), "south": (50, 10)}
SIDE_PX = 28
CODEC = codec_named("q8")
FEED, PREDICT = "/mple.v1.ComputeService/Feed", "/mple.v1.ComputeService/Predict"
PHASES = ("early", "training")
"""`early`: before there is a plan."""


def fuzzed_plan() -> RunPlan:
    """The plan of the target."""
    wire = WireSettings(codec=CODEC.name, message_bytes=16 * 1024, releases=255)
    return small_plan(sizes=SIZES, side_px=SIDE_PX, wire=wire)


class ComputeTarget:
    """A served compute node and its callers."""

    name = "compute"

    def __init__(
        self, folder: Path, phase: str, party_tls: PartyTls, *, idle_s: float = MESSAGE_IDLE_S, trains: bool = True
    ) -> None:
        """Serve.

        Args:
            folder: For its files; must not exist.
            phase: One of `PHASES`.
            party_tls: Certificates.
            idle_s: As the server's.
            trains: Whether scores are wanted again and again; otherwise sites are done once all samples are here.
        """
        folder.mkdir()
        self.phase, self._folder, self.plan = phase, folder, fuzzed_plan()
        self._blocks, self._values = self.plan.geometry.blocks, self.plan.geometry.morphed_elements
        self._ledger = Ledger(folder / "ledger.sqlite", "compute/compute")
        self._built = build_server(
            "127.0.0.1:0", party_tls(Role.COMPUTE, "compute"), self._ledger, streams=16, idle_s=idle_s
        )
        changed = threading.Condition()
        self.cache = SampleCache(folder / "cache.bin", CacheShape.of(self.plan), CACHE_SECRET, changed)
        bank = _bank(self.plan)
        self.intake = Intake(
            self.plan,
            self.cache,
            bank,
            changed,
            in_flight_samples=24,
            idle_timeout_s=1e6,
            mirroring=Mirroring(folder / "mirroring.json", self.plan),
        )
        sampler = GlobalSampler([train for train, _ in SIZES.values()], 4, seed=1)
        self.intake.want_missing(sampler, 0)
        self.service = service = ComputeService("test")
        if phase == "training":
            service.open_feed(self.plan, self.intake)
            service.open_predictions(
                self.plan, Predictor(self.plan, build_trunk(self.plan.model, len(self.plan.classes), 1), bank)
            )
        compute_pb2_grpc.add_ComputeServiceServicer_to_server(service, self._built.server)
        add_node_service(self._built.server, Party("test", Role.COMPUTE, "compute"))
        self._built.start()
        self._trainer = threading.Thread(target=self._score_for_ever, name="trainer", daemon=True)
        if trains:
            self._trainer.start()
        else:
            self.intake.close()
        callers = {f"site/{name}": party_tls(Role.SITE, name) for name in ("north", "south", "stranger")}
        callers["coordinator/coordinator"] = party_tls(Role.COORDINATOR, "coordinator")
        self.channels = {label: dial(self._built.address, tls) for label, tls in callers.items()}
        self.trainer_fault: Exception | None = None

    def next(self, draw: random.Random, mutator: Mutator) -> list[tuple[Shot, Outcome]]:
        """One stream."""
        site = draw.choice(("north", "south"))
        caller = f"site/{site}" if draw.random() < 0.95 else draw.choice(sorted(self.channels))
        if draw.random() < 0.25:
            count = draw.choice((1, 1, 2, 5))
            questions = [mutator.mutated(self.question(site, draw), self._samples(site)) for _ in range(count)]
            return [self._fire(Shot(self.name, self.phase, caller, PREDICT, tuple(questions)))]
        hello: Message = compute_pb2.FeedRequest(hello=compute_pb2.FeedHello(plan_sha256=self.plan.sha256()))
        first = [hello.SerializeToString()] if draw.random() < 0.9 else [mutator.mutated(hello, self._samples(site))]
        if draw.random() < 0.1:
            first.append(mutator.mutated(draw.choice(self._samples(site)), self._samples(site)))

        def reply(data: bytes) -> list[bytes]:
            answer = self.honest(site, compute_pb2.FeedResponse.FromString(data))
            if answer is None:
                return []
            messages = [answer.SerializeToString()]
            if draw.random() < 0.2:
                messages = [mutator.mutated(answer, [*self._samples(site), answer])]
            if draw.random() < 0.03:
                messages = messages * 2
            return messages

        return [self._fire(Shot(self.name, self.phase, caller, FEED, tuple(first), reply))]

    def replay(self, shot: Shot) -> Outcome:
        """Make a call of the corpus again."""
        return self._fire(shot)[1]

    def alive(self) -> bool:
        """Whether an honest site can still feed: it is asked, or told that this node has no plan yet."""
        hello = compute_pb2.FeedRequest(hello=compute_pb2.FeedHello(plan_sha256=self.plan.sha256()))
        for _ in range(100):  # the last stream of the same site may not have been cleared away
            shot = Shot(self.name, self.phase, "site/south", FEED, (hello.SerializeToString(),), lambda _data: [])
            outcome = fire(self.channels["site/south"], shot, most_answers=1)
            if outcome.code != ErrorCode.DUPLICATE_STREAM:
                break
            threading.Event().wait(0.02)
        # STREAM_TRUNCATED: it was let in, and asked for nothing in the short while for which it was there.
        served = outcome.answers == 1 or outcome.code in (ErrorCode.WRONG_PHASE, ErrorCode.STREAM_TRUNCATED)
        return self.trainer_fault is None and served

    def close(self) -> None:
        """End everything."""
        for channel in self.channels.values():
            channel.close()
        self.intake.fail(MpleError(ErrorCode.RUN_FAILED, "the target is closed"))
        self._built.stop(0.2)
        if self._trainer.is_alive():
            self._trainer.join(timeout=10)
        self._ledger.close()
        shutil.rmtree(self._folder)

    def honest(self, site: str, asked: compute_pb2.FeedResponse) -> compute_pb2.FeedRequest | None:
        """What an honest site answers."""
        if asked.HasField("samples"):
            request = asked.samples
            batch = self.batch(site, list(request.sample_ids), request.split, request.request_id)
            return compute_pb2.FeedRequest(batch=batch)
        if asked.HasField("logits"):
            logits = asked.logits
            score = score_of(logits.request_id, epoch=logits.epoch, samples=len(logits.sample_ids))
            return compute_pb2.FeedRequest(score=score)
        return None

    def question(self, site: str, draw: random.Random) -> compute_pb2.PredictRequest:
        """A valid prediction's message."""
        batch = self.batch(site, list(range(draw.choice((1, 2, 5)))), TEST, draw.getrandbits(32))
        return compute_pb2.PredictRequest(plan_sha256=self.plan.sha256(), batch=batch)

    def batch(self, site: str, ids: list[int], split: int, request_id: int) -> common_pb2.MorphedBatch:
        """A valid batch of these samples."""
        numbers = np.array(ids, np.int64)
        codes = np.repeat(numbers[:, None] % 100, self._values, axis=1).astype(np.int8)
        labels = (numbers % 3).astype(np.uint16) if split == TRAIN else np.empty(0, np.uint16)
        batch = Batch(EncodedSamples(codes, np.zeros((len(ids), self._blocks), np.uint8)), labels)
        return batch_to_message(
            batch, request_id=request_id, key_ref=key_ref(site), split=common_pb2.Split.Name(split), codec=CODEC
        )

    def _samples(self, site: str) -> list[Message]:
        """Messages of every kind that a site sends."""
        score = score_of(1, samples=3, right=1)
        return [
            compute_pb2.FeedRequest(batch=self.batch(site, [0, 1], TRAIN, 1)),
            compute_pb2.FeedRequest(score=score),
            compute_pb2.FeedRequest(hello=compute_pb2.FeedHello(plan_sha256=self.plan.sha256())),
            compute_pb2.FeedRequest(batch=self.batch("south" if site == "north" else "north", [0], TEST, 2)),
        ]

    def _fire(self, shot: Shot) -> tuple[Shot, Outcome]:
        return shot, fire(self.channels[shot.caller], shot)

    def _score_for_ever(self) -> None:
        logits = np.zeros((sum(test for _, test in SIZES.values()), 3), np.float32)
        epoch = 0
        while True:
            epoch += 1
            try:
                self.intake.scores(TEST, epoch, logits)
            except MpleError:
                return
            except Exception as fault:
                self.trainer_fault = fault
                raise


def _bank(plan: RunPlan) -> LayerBank:
    bank = LayerBank(plan)
    stem = planned_stem(plan.model, filters=plan.filters, channels=1)
    order = channel_order(plan, bytes(32))
    for site in SIZES:
        layer = build_augmented_layer(
            plan.morph.scheme(), plan.image, stem.kernels_FCpp, key_of(site), order, session=plan.session, key_epoch=1
        )
        bank.store(key_ref(site), layer)
    return bank
