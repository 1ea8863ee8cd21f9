"""A site under fire: its real feed and line to the coordinator, before a server that answers with mutations."""

from __future__ import annotations

import contextlib
import random
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from mple.data import Dataset, LabelledImages
from mple.disk.damage import DamagedError
from mple.meter import Ledger
from mple.node.coordinator_client import CoordinatorClient
from mple.node.retry import RetryPolicy, StoppedError, UnreachableError
from mple.node.run_events import read_plan
from mple.node.stop import Stop
from mple.rpc import MpleError, Party, Role, open_channel
from mple.rpc.settings import SERVING_OPTIONS
from mple.v1 import common_pb2, compute_pb2, compute_pb2_grpc, coordinator_pb2
from provider_node.feeding.feed import SiteFeed
from provider_node.feeding.morphing import MorphedImages
from provider_node.feeding.release_book import ReleaseBook
from provider_node.feeding.scoring import SplitScoring
from provider_node.feeding.site_samples import SiteSamples
from tests.fuzz.compute_target import SIDE_PX, SIZES, fuzzed_plan
from tests.fuzz.mutation import Mutator
from tests.fuzz.shots import DEADLINE_S, Outcome, Shot
from tests.support.served import PartyTls
from tests.support.small_plan import CLASSES, TEST, TRAIN, key_of, key_ref

FEED, WATCH = "/mple.v1.ComputeService/Feed", "/mple.v1.CoordinatorService/Watch"
ORDER = np.array([2, 0, 1])
PHASES = ("feeding",)
MOST_SCORINGS = 250


class SiteTarget:
    """Site north; what the server answers is set call by call."""

    name, phase = "site", "feeding"

    def __init__(self, folder: Path, party_tls: PartyTls) -> None:
        """Serve and dial; `folder` must not exist."""
        folder.mkdir()
        self._folder, self.plan = folder, fuzzed_plan()
        self._answers: tuple[bytes, ...] = ()
        self._held: threading.Event | None = None
        self._said = 0
        tls, server_tls = party_tls(Role.SITE, "north"), party_tls(Role.COMPUTE, "compute")
        credentials = grpc.ssl_server_credentials(
            [(server_tls.key.read_bytes(), server_tls.certificate.read_bytes())], server_tls.ca.read_bytes(), True
        )
        self._threads = ThreadPoolExecutor(4)
        self._server = grpc.server(self._threads, handlers=(_Answering(self),), options=SERVING_OPTIONS)
        address = f"127.0.0.1:{self._server.add_secure_port('127.0.0.1:0', credentials)}"
        self._server.start()
        self._ledger = Ledger(folder / "ledger.sqlite", "site/north")
        self._channel = open_channel(address, tls, Party("test", Role.COMPUTE, "compute"), self._ledger)
        self.stub = compute_pb2_grpc.ComputeServiceStub(self._channel)
        retry = RetryPolicy.to(address, tls, Stop(), 0.0)
        self._line = CoordinatorClient(self._channel, retry)
        train, test = SIZES["north"]
        dataset = Dataset(name="north", classes=CLASSES, train=_pictures(train), test=_pictures(test))
        self._book = book = ReleaseBook(folder / "releases.bin", train=train, test=test, most=255)
        images = MorphedImages(dataset, self.plan, "north", key_of("north"), ORDER)
        labels, epochs = {TEST: dataset.test.labels}, self.plan.training.epochs
        scoring = SplitScoring(labels, ORDER, epochs=epochs, most={TEST: MOST_SCORINGS})
        samples = SiteSamples(self.plan, key_ref("north"), images, book)
        self.feed = SiteFeed(samples, compute_pb2.FeedHello(plan_sha256=self.plan.sha256()), scoring)

    def next(self, draw: random.Random, mutator: Mutator) -> list[tuple[Shot, Outcome]]:
        """One stream of answers to the site."""
        feeding = draw.random() < 0.8
        seeds = self._requests(draw) if feeding else self._events()
        count = draw.choice((1, 2, 5, 20))
        answers = [
            mutator.mutated(seed, seeds) if draw.random() < 0.4 else seed.SerializeToString()
            for seed in (draw.choice(seeds) for _ in range(count))
        ]
        method = FEED if feeding else WATCH
        shot = Shot(self.name, self.phase, "compute/compute", method, tuple(answers))
        return [(shot, self.replay(shot))]

    def replay(self, shot: Shot) -> Outcome:
        """Answer the site with these messages."""
        self._answers, self._held, self._said = shot.messages, None, 0
        stop, ended = Stop(), "OK"
        timer = threading.Timer(DEADLINE_S, stop.set)
        timer.start()
        try:
            if shot.method == FEED:
                self.feed.run(self.stub, stop)
            else:
                self._follow()
        except MpleError as fault:
            ended = fault.code.value
        except DamagedError:  # more samples are claimed than were released: as if the book were an older copy
            ended = "DAMAGED"
        except (grpc.RpcError, UnreachableError, StoppedError) as fault:
            ended = type(fault).__name__.strip("_")
        except Exception as fault:  # what this target is here to find
            ended = f"UNHANDLED {type(fault).__name__}: {fault}"
        finally:
            timer.cancel()
        # The site breaks off at the first message that it refuses: the later ones were never sent.
        sent = shot.messages[: self._said]
        return Outcome(ended.partition(":")[0], "", sent, len(sent), stop.is_set(), ended)

    def alive(self) -> bool:
        """Whether the site still answers an honest compute node."""
        asked = compute_pb2.SampleRequest(request_id=1, split=TEST, sample_ids=[0])
        done = compute_pb2.FeedResponse(done=compute_pb2.FeedDone())
        honest = (compute_pb2.FeedResponse(samples=asked).SerializeToString(), done.SerializeToString())
        outcome = self.replay(Shot(self.name, self.phase, "compute/compute", FEED, honest))
        return outcome.status in ("OK", "RELEASE_LIMIT")

    def close(self) -> None:
        """End everything."""
        self._channel.close()
        self._server.stop(0.2).wait()
        self._threads.shutdown(wait=False)
        self._ledger.close()
        shutil.rmtree(self._folder)

    def answer(self, requests: Iterator[bytes]) -> Iterator[bytes]:
        """What the server says now; it reads what the site sends unless it is to hold."""
        held = self._held
        if held is None:
            threading.Thread(target=_read_all, args=(requests,), daemon=True).start()
        for count, answer in enumerate(self._answers, start=1):
            self._said = count
            yield answer
        if held is not None:
            held.wait(60)

    def hold_after(self, answers: tuple[bytes, ...], over: threading.Event) -> None:
        """Have the next stream say this, read nothing, and stay open until `over`."""
        self._answers, self._held = answers, over

    def released(self) -> NDArray[np.uint8]:
        """How often each training sample has left the site."""
        return self._book.counts(common_pb2.SPLIT_TRAIN)

    def _follow(self) -> None:
        for event in self._line.events():
            if event.HasField("plan_made"):
                read_plan(event.plan_made)

    def _requests(self, draw: random.Random) -> list[Message]:
        train, test = SIZES["north"]
        pb = compute_pb2
        some = draw.sample(range(train), 6)
        logits = np.zeros((3, len(CLASSES)), "<f4").tobytes()
        ids = draw.sample(range(test), 3)
        asked = pb.SampleRequest(request_id=draw.getrandbits(16), split=TRAIN, sample_ids=some)
        return [
            pb.FeedResponse(samples=asked),
            pb.FeedResponse(samples=pb.SampleRequest(request_id=7, split=TEST, sample_ids=ids)),
            pb.FeedResponse(
                logits=pb.Logits(request_id=8, epoch=1, split=TEST, sample_ids=ids, classes=len(CLASSES), values=logits)
            ),
            pb.FeedResponse(done=pb.FeedDone()),
        ]

    def _events(self) -> list[Message]:
        pb = coordinator_pb2
        made = pb.PlanMade(plan_json=self.plan.to_json(), plan_sha256=self.plan.sha256())
        reference = common_pb2.KeyRef(site="north", epoch=1, fingerprint=bytes(32))
        header = pb.LayerHeader(key_ref=reference, total_bytes=9, sha256=bytes(32))
        return [
            pb.WatchResponse(sequence=1, plan_made=made),
            pb.WatchResponse(sequence=2, phase_changed=pb.PhaseChanged(phase=pb.PHASE_TRAINING)),
            pb.WatchResponse(sequence=3, layer_released=pb.LayerReleased(header=header)),
            pb.WatchResponse(sequence=4, epoch_done=pb.EpochDone(epoch=1, loss=0.5)),
            pb.WatchResponse(sequence=5, phase_changed=pb.PhaseChanged(phase=pb.PHASE_FINISHED)),
        ]


class _Answering(grpc.GenericRpcHandler):
    """Answers any call with the target's present messages."""

    def __init__(self, target: SiteTarget) -> None:
        self._target = target

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        def behaviour(requests: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
            yield from self._target.answer(requests)

        return grpc.stream_stream_rpc_method_handler(behaviour)


def _read_all(requests: Iterator[bytes]) -> None:
    with contextlib.suppress(grpc.RpcError):
        for _ in requests:
            pass


def _pictures(count: int) -> LabelledImages:
    generator = np.random.default_rng(5)
    pixels = generator.integers(0, 256, (count, 1, SIDE_PX, SIDE_PX), dtype=np.uint8)
    return LabelledImages(pixels, np.arange(count) % len(CLASSES))
