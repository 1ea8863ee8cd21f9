"""Two processes for benchmarks: a site that feeds and a compute node that takes in, round after round, and reads and
decodes what it got step by step, as training does.

python -m benchmarks.feeding_nodes site|compute FOLDER
"""

from __future__ import annotations

import secrets
import socket
import sys
import threading
from pathlib import Path

import numpy as np
import torch
from grpc import RpcError
from numpy.typing import NDArray

from compute_node.feeding.intake import Intake
from compute_node.feeding.mirroring import Mirroring
from compute_node.feeding.sample_cache import SampleCache
from compute_node.layers.layer_bank import LayerBank
from compute_node.service import ComputeService
from mple.data import NpzSource, open_source
from mple.meter import Ledger
from mple.model.stem import Stem, planned_stem
from mple.morph import MorphKey
from mple.morph.augmented import build_augmented_layer
from mple.morph.basis import Basis
from mple.node.signals import stop_on_signals
from mple.node.stop import Stop
from mple.pki import throwaway
from mple.plan import (
    Custody,
    GlobalSampler,
    ModelSettings,
    MorphSettings,
    NormalisationSettings,
    RunPlan,
    SitePlan,
    TrainingSettings,
    WireSettings,
)
from mple.plan.key_refs import key_ref
from mple.plan.orders import label_order
from mple.records.cache_records import CacheShape
from mple.rpc import ErrorCode, MpleError, Party, Role, TlsFiles, build_server, open_channel
from mple.v1 import common_pb2, compute_pb2, compute_pb2_grpc
from mple.wire.basis_file import basis_bytes, basis_of
from mple.wire.codecs import codec_named
from mple.wire.transform_codec import TransformCodec
from provider_node.feeding.feed import SiteFeed
from provider_node.feeding.morphing import MorphedImages
from provider_node.feeding.release_book import ReleaseBook
from provider_node.feeding.site_samples import SiteSamples
from provider_node.keys.key_basis import fitted_basis

SITE, COMPUTE = "site", "compute"
ROUND_SAMPLES = 10_000
_CLASSES = 10
_IN_FLIGHT = 2048
_IDLE_S = 60.0
_STEP = 128
_BASIS = "basis.bin"


def lay_out(folder: Path, pixels: NDArray[np.uint8], labels: NDArray[np.int64], codec: str) -> None:
    """Pictures, certificates, a key with its basis, a codec and an address for both."""
    test = slice(_CLASSES)
    np.savez(folder / "set.npz", x_train=pixels, y_train=labels, x_test=pixels[test], y_test=labels[test])
    (folder / "codec").write_text(codec)
    (folder / "morph.key").write_bytes(secrets.token_bytes(32))
    chosen = codec_named(codec)
    if isinstance(chosen, TransformCodec):
        train = open_source(NpzSource(path=folder / "set.npz")).train
        basis = fitted_basis(_plan(folder), _key(folder), 1, train, chosen)
        (folder / _BASIS).write_bytes(basis_bytes(basis))
    with socket.create_server(("127.0.0.1", 0)) as free:
        (folder / "address").write_text(f"127.0.0.1:{free.getsockname()[1]}")
    parties = [Party("soak", Role.COMPUTE, COMPUTE), Party("soak", Role.SITE, SITE)]
    throwaway(folder / "authority", parties, ["127.0.0.1"], [folder / "tls-compute", folder / "tls-site"])


def take_in(folder: Path, stop: Stop) -> None:
    """Be the compute node; `samples` in the folder counts what whole rounds have brought."""
    plan = _plan(folder)
    bank, reference, basis = LayerBank(plan), key_ref(plan, SITE), _basis(folder, plan)
    if basis is not None:
        scheme, stem = plan.morph.scheme(), _stem(plan.model)
        order, session = np.arange(len(stem.kernels_FCpp)), plan.session
        kernels = stem.kernels_FCpp
        bank.store(
            reference,
            build_augmented_layer(
                scheme, plan.image, kernels, _key(folder), order, session=session, key_epoch=1, basis=basis
            ),
        )
    service = ComputeService("soak")
    taken = 0
    with Ledger(folder / "compute.sqlite", "compute/compute") as ledger:
        ledger.run = plan.run_id
        tls = TlsFiles.in_directory(folder / "tls-compute")
        built = build_server((folder / "address").read_text(), tls, ledger, streams=4)
        compute_pb2_grpc.add_ComputeServiceServicer_to_server(service, built.server)
        built.start()
        before: Intake | None = None
        current: list[Intake] = []
        threading.Thread(target=_fail_on_stop, args=(stop, current), daemon=True).start()
        while not stop.is_set():
            path = folder / "cache.bin"
            path.unlink(missing_ok=True)
            changed = threading.Condition()
            cache = SampleCache(path, CacheShape.of(plan), bytes(32), changed)
            intake = Intake(
                plan,
                cache,
                bank,
                changed,
                in_flight_samples=_IN_FLIGHT,
                idle_timeout_s=_IDLE_S,
                mirroring=Mirroring(folder / "mirroring.json", plan),
            )
            sampler = GlobalSampler([ROUND_SAMPLES], _STEP, plan.training.seed)
            intake.want_missing(sampler, 0)
            current[:] = [intake]
            service.open_feed(plan, intake)
            if before is not None:  # only now: the site that hears it comes back for the new round
                before.close()
            for step in range(sampler.steps_per_epoch):
                numbers = sampler.step(0, step)
                try:
                    intake.wait_for(common_pb2.SPLIT_TRAIN, numbers)
                except MpleError:
                    if stop.is_set():
                        break
                    raise
                cached = cache.read(common_pb2.SPLIT_TRAIN, numbers)
                bank.decoded(cached.coded, cached.keys_B)
            taken += ROUND_SAMPLES
            _count(folder / "samples", taken)
            before = intake
        built.stop(1.0)


def _fail_on_stop(stop: Stop, current: list[Intake]) -> None:
    stop.wait()
    for intake in current:
        intake.fail(MpleError(ErrorCode.RUN_FAILED, "stopped"))


def feed(folder: Path, stop: Stop) -> None:
    """Be the site."""
    plan, secret = _plan(folder), bytes(32)
    dataset = open_source(NpzSource(path=folder / "set.npz"))
    basis = _basis(folder, plan)
    images = MorphedImages(dataset, plan, SITE, _key(folder), label_order(plan, secret), basis=basis)
    book = folder / "releases.bin"
    remote = Party("soak", Role.COMPUTE, COMPUTE)
    with Ledger(folder / "site.sqlite", f"site/{SITE}") as ledger:
        ledger.run = plan.run_id
        tls = TlsFiles.in_directory(folder / "tls-site")
        with open_channel((folder / "address").read_text(), tls, remote, ledger) as channel:
            stub = compute_pb2_grpc.ComputeServiceStub(channel)
            while not stop.is_set():
                book.unlink(missing_ok=True)
                releases = ReleaseBook(book, train=ROUND_SAMPLES, test=0, most=plan.wire.releases)
                samples = SiteSamples(plan, key_ref(plan, SITE), images, releases)
                one = SiteFeed(samples, compute_pb2.FeedHello(plan_sha256=plan.sha256()))
                try:
                    one.run(stub, stop)
                except RpcError:  # the compute node is not up yet, or it has been stopped
                    stop.wait(0.2)


def _plan(folder: Path) -> RunPlan:
    model = ModelSettings()
    fingerprint = _key(folder).fingerprint().hex()
    site = SitePlan(name=SITE, train_images=ROUND_SAMPLES, test_images=0, key_epoch=1, key_fingerprint=fingerprint)
    return RunPlan(
        run_id="soak",
        consortium="soak",
        compute=COMPUTE,
        channels=3,
        height=32,
        width=32,
        classes=tuple(f"class{number}" for number in range(_CLASSES)),
        sites=(site,),
        custody=Custody.SITE,
        stem_digest=_stem(model).digest().hex(),
        morph=MorphSettings(),
        wire=WireSettings(codec=(folder / "codec").read_text()),
        model=model,
        training=TrainingSettings(),
        normalisation=NormalisationSettings(),
    )


def _key(folder: Path) -> MorphKey:
    return MorphKey((folder / "morph.key").read_bytes())


def _stem(model: ModelSettings) -> Stem:
    return planned_stem(model, filters=64, channels=3)


def _basis(folder: Path, plan: RunPlan) -> Basis | None:
    path, geometry = folder / _BASIS, plan.geometry
    if not path.exists():
        return None
    return basis_of(path.read_bytes(), cores=geometry.cores(plan.morph.scheme()), core_side=geometry.core_side)


def _count(path: Path, samples: int) -> None:
    temporary = path.with_suffix(".part")
    temporary.write_text(str(samples))
    temporary.replace(path)


def _main() -> None:
    role, folder = sys.argv[1:]
    torch.set_num_threads(1)
    with stop_on_signals(last=True) as stop:
        (feed if role == SITE else take_in)(Path(folder), stop)


if __name__ == "__main__":
    _main()
