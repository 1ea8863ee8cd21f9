"""The coordinator under fire: a small run in each phase behind a real server, begun anew every so many calls."""

from __future__ import annotations

import contextlib
import random
import shutil
from pathlib import Path

from google.protobuf.message import Message

from mple.plan import CoordinatorSettings, Custody, RunPlan
from mple.rpc import MpleError, Role
from mple.v1 import coordinator_pb2
from tests.fuzz.mutation import Mutator
from tests.fuzz.seeds import SERVICE, Seed, coordinator_seeds, layer_with
from tests.fuzz.shots import DEADLINE_S, Outcome, Shot, dial, fire
from tests.support.open_coordinator import OpenCoordinator
from tests.support.served import PartyTls
from tests.support.small_run import SITES, SmallRun, chunks_of, plan_for, sealed_for, settings_in, site_party

PHASES = ("gathering", "setup", "layers", "training", "finished", "failed", "escrow")
"""`layers` is a set-up in which one layer is released and another half uploaded."""
CALLERS = ("site/north", "site/south", "compute/compute", "site/stranger")


class CoordinatorTarget:
    """One run in one phase, and whoever calls it."""

    name = "coordinator"

    def __init__(self, folder: Path, phase: str, party_tls: PartyTls, prepared: Path) -> None:
        """Serve a copy of a prepared run.

        Args:
            folder: For this run's files; must not exist.
            phase: One of `PHASES`.
            party_tls: Certificates.
            prepared: Where `prepare` has left the run.
        """
        self.phase, self._folder = phase, folder
        shutil.copytree(prepared, folder)
        self._coordinator = OpenCoordinator(SmallRun(_settings(folder, phase)), party_tls, folder, streams=24)
        self._channels = {
            label: dial(
                self._coordinator.rpc.address, party_tls(Role(label.partition("/")[0]), label.partition("/")[2])
            )
            for label in CALLERS
        }
        self._plan = _planned(self._coordinator.run)
        self._layer = (prepared / "north.layer").read_bytes()
        self._seeds = coordinator_seeds(self._plan, self._layer)

    def next(self, draw: random.Random, mutator: Mutator) -> list[tuple[Shot, Outcome]]:
        """One call, or the two of a layer."""
        if self.phase in ("setup", "layers", "training") and draw.random() < 0.08:
            return self._layer_file(draw, mutator)
        seed = draw.choice(self._seeds)
        while _ends_the_run(seed) and draw.random() < 0.95:
            seed = draw.choice(self._seeds)
        if draw.random() < 0.02:
            seed = Seed(SERVICE + draw.choice(("Nothing", "", "Join/x")), seed.messages)
        messages = [self._bytes(message, draw, mutator) for message in seed.messages]
        if len(messages) > 1 or draw.random() < 0.03:
            messages = _jumbled(messages, draw)
        caller = draw.choice(seed.callers) if draw.random() < 0.9 else draw.choice(CALLERS)
        return [self._fire(Shot(self.name, self.phase, caller, seed.method, tuple(messages), None, seed.endless))]

    def replay(self, shot: Shot) -> Outcome:
        """Make a call of the corpus again."""
        return fire(self._channels[shot.caller], shot, endless_s=DEADLINE_S)

    def close(self) -> None:
        """End the server and remove the run."""
        for channel in self._channels.values():
            channel.close()
        self._coordinator.close()
        self._coordinator.run.close()
        shutil.rmtree(self._folder)

    def alive(self) -> bool:
        """Whether an honest site is served as ever, whatever was sent before."""
        probe = Shot(self.name, self.phase, "site/west", "/grpc.health.v1.Health/Check", (b"",))
        return fire(self._channels["site/south"], probe).status == "OK"

    def _layer_file(self, draw: random.Random, mutator: Mutator) -> list[tuple[Shot, Outcome]]:
        """A layer of rubbish, its digest and size right: what a reader of layer files must bear."""
        content = mutator.damaged_file(self._layer)
        announced, chunks = layer_with(content, self._plan)
        first = Shot(self.name, self.phase, "site/north", SERVICE + "BeginLayer", (announced.SerializeToString(),))
        data = tuple(chunk.SerializeToString() for chunk in chunks)
        return [self._fire(first), self._fire(Shot(self.name, self.phase, "site/north", SERVICE + "UploadLayer", data))]

    def _fire(self, shot: Shot) -> tuple[Shot, Outcome]:
        return shot, fire(self._channels[shot.caller], shot)

    def _bytes(self, message: Message, draw: random.Random, mutator: Mutator) -> bytes:
        if draw.random() < 0.1:
            return message.SerializeToString()
        return mutator.mutated(message, [part for seed in self._seeds for part in seed.messages[:1]])


def prepare(folder: Path) -> None:
    """Make a run in each phase, in a folder of that name."""
    for phase in PHASES:
        with contextlib.closing(SmallRun(_settings(folder / phase, phase))) as run:
            (folder / phase / "north.layer").write_bytes(_advance(run, phase))


def _advance(run: SmallRun, phase: str) -> bytes:
    """Bring a run into a phase; the layer of site north."""
    if phase == "gathering":
        run.join_site("north")
        return b"\x08" + bytes(2000)
    run.join_all()
    layer = run.layer("north")
    if phase == "escrow":
        run.run.put_sealed(
            site_party("north"), sealed_for("coordinator/coordinator", coordinator_pb2.SEALED_KIND_MORPH_KEY)
        )
    if phase in ("setup", "escrow"):
        return layer
    run.upload("north", layer)
    if phase == "layers":
        south = run.layer("south")
        run.begin("south", south)
        with contextlib.suppress(MpleError):  # the stream ends before its last chunk
            run.releases.upload(site_party("south"), iter(list(chunks_of(south))[:2]))
        return layer
    for site in SITES[1:]:
        run.upload(site, run.layer(site))
    run.stored()
    if phase != "training":
        run.epoch(1)
    if phase == "finished":
        run.trained()
    if phase == "failed":
        run.run.fail("site/west", "its disk is gone")
    return layer


def _settings(folder: Path, phase: str) -> CoordinatorSettings:
    folder.mkdir(parents=True, exist_ok=True)
    custody = Custody.ESCROW if phase == "escrow" else Custody.SITE
    return settings_in(folder, custody=custody, stem="offered" if phase == "gathering" else "seed")


def _planned(run: SmallRun) -> RunPlan:
    try:
        return run.run.plan
    except MpleError:  # not made yet: one of its kind will do
        return plan_for()


def _ends_the_run(seed: Seed) -> bool:
    """Whether it is a party's right to end the run by this: once it has, there is little left to reach."""
    message = seed.messages[0]
    return isinstance(message, coordinator_pb2.ReportRequest) and message.HasField("failure")


def _jumbled(messages: list[bytes], draw: random.Random) -> list[bytes]:
    """A stream with messages dropped, doubled, swapped, or none at all."""
    how = draw.randrange(6)
    if how == 0:
        return messages[: draw.randrange(len(messages) + 1)]
    if how == 1:
        return messages + messages[-1:]
    if how == 2:
        draw.shuffle(messages)
    if how == 3:
        return [message for message in messages for _ in range(2)]
    return messages
