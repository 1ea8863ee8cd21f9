"""A run small enough for tests: three sites, images of 1 x 28 x 28, eight filters, layers of 100 KiB.

`SmallRun` drives a coordinator's run by direct calls, without sockets, and can be closed and opened again as a restart
would; everything else here makes what parties bring.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from coordinator.layers.layer_releases import LayerReleases
from coordinator.memory.state_file import StateFile, as_bytes
from coordinator.run import Run
from mple.model.stem import Stem, planned_stem
from mple.morph import MorphKey
from mple.morph.augmented import AugmentedLayer, build_augmented_layer
from mple.plan import (
    CoordinatorSettings,
    Custody,
    ModelSettings,
    MorphSettings,
    RunPlan,
    RunSettings,
    TrainingSettings,
    WireSettings,
)
from mple.plan.key_refs import key_ref
from mple.plan.orders import channel_order
from mple.plan.run_plan import PROTOCOL_VERSION
from mple.rpc import ErrorCode, MpleError, Party, Role
from mple.v1 import common_pb2, coordinator_pb2
from mple.wire.layer_file import write_layer
from tests.support.small_plan import key_of, small_plan

SITES = ("north", "south", "west")
CLASSES = ("benign", "malignant")
COORDINATOR = Party("test", Role.COORDINATOR, "coordinator")
COMPUTE = Party("test", Role.COMPUTE, "compute")
SECRET = bytes(range(32))
"""The consortium secret wherever a test needs one."""
MODEL = hashlib.sha256(b"model").digest()
"""What the compute node reports in the end."""
GATHERED = [*(f"joined site/{site}" for site in SITES), "joined compute/compute", "certificates", "plan_made", "setup"]
"""The story of a run that all have joined, as `SmallRun.story` tells it."""


def site_party(name: str) -> Party:
    """A site of the consortium."""
    return Party("test", Role.SITE, name)


def settings_in(
    folder: Path,
    *,
    custody: Custody = Custody.SITE,
    sites: tuple[str, ...] = SITES,
    morph: MorphSettings | None = None,
    stem: str | None = None,
    kernel: int = 3,
    training: TrainingSettings | None = None,
    mirrored: bool = False,
) -> CoordinatorSettings:
    """A coordinator's configuration with its state in `folder / "state"`."""
    return CoordinatorSettings(
        listen="127.0.0.1:0",
        state=folder / "state",
        tls=folder / "tls",
        run=RunSettings(sites=sites, custody=custody),
        morph=morph or MorphSettings(),
        wire=WireSettings(codec="q6", layer="f16"),
        model=ModelSettings(width=0.125, stem=stem, kernel=kernel, stem_mirrored=mirrored),
        training=training or TrainingSettings(),
        threads=1,
    )


def site_profile(name: str, **changes: object) -> coordinator_pb2.SiteProfile:
    """What a site brings, single fields replaced."""
    profile = coordinator_pb2.SiteProfile(
        channels=1,
        height=28,
        width=28,
        classes=CLASSES,
        train_images=10,
        test_images=3,
        patients="unknown",
        task="classes",
        key_ref=common_pb2.KeyRef(site=name, epoch=1, fingerprint=key_of(name).fingerprint()),
    )
    for field, value in changes.items():
        if field == "classes":
            del profile.classes[:]
            profile.classes.extend(value)  # type: ignore[arg-type]
        elif field == "key_ref":
            profile.key_ref.CopyFrom(value)  # type: ignore[arg-type]
        else:
            setattr(profile, field, value)
    return profile


def site_join(name: str, **changes: object) -> coordinator_pb2.JoinRequest:
    """A site's join, single fields of its profile replaced."""
    return coordinator_pb2.JoinRequest(protocol_version=PROTOCOL_VERSION, site=site_profile(name, **changes))


def compute_join(stem_digest: bytes = b"", weights_digest: bytes = b"", ranks: int = 1) -> coordinator_pb2.JoinRequest:
    """The compute node's join."""
    profile = coordinator_pb2.ComputeProfile(stem_digest=stem_digest, weights_digest=weights_digest, ranks=ranks)
    return coordinator_pb2.JoinRequest(protocol_version=PROTOCOL_VERSION, compute=profile)


def plan_for(
    sites: tuple[str, ...] = SITES,
    *,
    custody: Custody = Custody.SITE,
    morph: MorphSettings | None = None,
    wire: WireSettings | None = None,
) -> RunPlan:
    """The plan that the small run comes to, made without a coordinator."""
    return small_plan(
        run_id="abc123",
        sizes=dict.fromkeys(sites, (10, 3)),
        classes=CLASSES,
        custody=custody,
        morph=morph or MorphSettings(),
        wire=wire or WireSettings(codec="q6", layer="f16"),
        side_px=28,
    )


def stem_for(seed: str | None = None) -> Stem:
    """The small run's stem, or another of its shape."""
    if seed is None:
        return planned_stem(ModelSettings(), filters=8, channels=1)
    return Stem.from_seed(seed, filters=8, channels=1, kernel=3)


def layer_for(
    plan: RunPlan, site: str, *, stem: Stem | None = None, secret: bytes = SECRET, key: MorphKey | None = None
) -> AugmentedLayer:
    """A site's layer under a plan, as an honest site builds it."""
    return build_augmented_layer(
        plan.morph.scheme(),
        plan.image,
        (stem or stem_for()).kernels_FCpp,
        key or key_of(site),
        channel_order(plan, secret),
        session=plan.session,
        key_epoch=1,
    )


def layer_bytes(layer: AugmentedLayer, folder: Path, numbers: str = "f16") -> bytes:
    """The file that a site uploads; by default of the small run's numbers."""
    path = folder / "layer.safetensors"
    write_layer(layer, path, numbers)
    data = path.read_bytes()
    assert "augmented.weight" in load_file(path)
    path.unlink()
    return data


def header_of(plan: RunPlan, site: str, data: bytes) -> coordinator_pb2.LayerHeader:
    """What the site says of these bytes."""
    return coordinator_pb2.LayerHeader(
        key_ref=key_ref(plan, site), total_bytes=len(data), sha256=hashlib.sha256(data).digest()
    )


def begin_of(plan: RunPlan, site: str, data: bytes) -> coordinator_pb2.BeginLayerRequest:
    """How the site announces these bytes."""
    return coordinator_pb2.BeginLayerRequest(header=header_of(plan, site, data), plan_sha256=plan.sha256())


def chunks_of(data: bytes, at: int = 0, size: int = 64 * 1024) -> Iterator[coordinator_pb2.UploadLayerRequest]:
    """The messages of an upload from a byte on; one empty last message when nothing is left."""
    sha256 = hashlib.sha256(data).digest()
    first = at
    while True:
        part = data[at : at + size]
        final = at + len(part) == len(data)
        yield coordinator_pb2.UploadLayerRequest(
            sha256=sha256 if at == first else b"", offset=at, data=part, final=final
        )
        at += len(part)
        if final:
            return


def sealed_for(
    recipient: str, kind: coordinator_pb2.SealedKind = coordinator_pb2.SEALED_KIND_CONSORTIUM_SECRET
) -> coordinator_pb2.PutSealedRequest:
    """An envelope with nothing of worth."""
    return coordinator_pb2.PutSealedRequest(recipient=recipient, kind=kind, envelope=b"sealed")


class SmallRun:
    """A run by direct calls. `restart` closes and opens it as a coordinator that is started again does."""

    def __init__(self, settings: CoordinatorSettings, certificates: dict[str, bytes] | None = None) -> None:
        self.settings = settings
        self.certificates = certificates or {}
        """DER by label; parties without one join with bytes that stand for one."""
        settings.state.mkdir(parents=True, exist_ok=True)
        self.phases: list[str] = []
        self._open()

    def _open(self) -> None:
        self.file = StateFile(self.settings.state)
        certificate = self.certificates.get(COORDINATOR.label, b"coordinator's certificate")
        self.run = Run(self.settings, COORDINATOR, certificate, self.file, self.phases.append)
        self.releases = LayerReleases(self.run)

    def close(self) -> None:
        """As the end of the process."""
        self.file.__exit__()

    def restart(self, **changes: object) -> None:
        """Close, then open under the same configuration, or single fields of it replaced."""
        self.close()
        self.settings = dataclasses.replace(self.settings, **changes)  # type: ignore[arg-type]
        self._open()

    def join_site(self, name: str, **changes: object) -> None:
        """A site joins, single fields of its profile replaced."""
        party = site_party(name)
        certificate = self.certificates.get(party.label, b"certificate of " + name.encode())
        self.run.join(party, site_join(name, **changes), certificate)

    def join_compute(self, stem_digest: bytes = b"") -> None:
        """The compute node joins."""
        self.run.join(COMPUTE, compute_join(stem_digest), self.certificates.get(COMPUTE.label, b"compute's"))

    def join_all(self) -> RunPlan:
        """Everybody joins; the plan that follows."""
        for name in self.settings.run.sites:
            self.join_site(name)
        self.join_compute()
        return self.run.plan

    def layer(self, site: str) -> bytes:
        """The layer file that an honest site uploads."""
        return layer_bytes(layer_for(self.run.plan, site, stem=self.run.stem), self.settings.state)

    def begin(self, site: str, data: bytes) -> int:
        """A site announces these bytes; how many are here."""
        return self.releases.begin(site_party(site), begin_of(self.run.plan, site, data))

    def upload(self, site: str, data: bytes) -> None:
        """A site announces and uploads these bytes."""
        self.releases.upload(site_party(site), chunks_of(data, self.begin(site, data)))

    def upload_all(self) -> None:
        """Every site uploads its layer."""
        for site in self.settings.run.sites:
            self.upload(site, self.layer(site))

    def stored(self) -> None:
        """The compute node has all layers."""
        self.run.report_layers_stored(coordinator_pb2.LayersStored(plan_sha256=self.run.plan.sha256()))

    def epoch(self, number: int, **figures: float) -> None:
        """The compute node has finished an epoch."""
        done = {"loss": 0.5, "scores": {"accuracy": 0.75}, "seconds": 1.5, **figures}
        self.run.report_epoch(coordinator_pb2.EpochDone(epoch=number, **done))

    def trained(self, digest: bytes = MODEL) -> None:
        """The compute node has finished training."""
        self.run.report_training_done(coordinator_pb2.TrainingDone(model_sha256=digest))

    def events(self, after: int = 0) -> list[coordinator_pb2.WatchResponse]:
        """All that watchers have been sent by now, whomever it concerns."""
        rows = self.file.rows("SELECT event FROM events WHERE sequence > ? ORDER BY sequence", after)
        return [coordinator_pb2.WatchResponse.FromString(as_bytes(row[0])) for row in rows]

    def story(self) -> list[str]:
        """The events by their kind and what they are about, but for those of envelopes."""
        return [told(event) for event in self.events() if event.WhichOneof("event") != "envelope_left"]


def told(event: coordinator_pb2.WatchResponse) -> str:
    """An event in two or three words."""
    kind = event.WhichOneof("event")
    if kind == "party_joined":
        return f"joined {event.party_joined.party}"
    if kind == "phase_changed":
        return coordinator_pb2.Phase.Name(event.phase_changed.phase).removeprefix("PHASE_").lower()
    if kind == "layer_released":
        return f"layer {event.layer_released.header.key_ref.site}"
    if kind == "epoch_done":
        return f"epoch {event.epoch_done.epoch}"
    if kind == "fault":
        return f"fault {event.fault.party}"
    return str(kind)


@contextlib.contextmanager
def refused(code: ErrorCode, text: str | None = None) -> Iterator[None]:
    """The block ends with an error of this code, whose text matches."""
    with pytest.raises(MpleError, match=text) as fault:
        yield
    assert fault.value.code is code
