"""A site that has taken part in a run, and the run's compute node: what a prediction needs, without training.

The site's folder is as a run leaves it, its data are a folder of 28 x 28 pictures. The server is the real one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from compute_node.layers.layer_bank import LayerBank
from compute_node.predictor import Predictor
from compute_node.service import ComputeService
from mple.disk.damage import with_checksum
from mple.meter import Ledger
from mple.model.first_layer.plain import plain_features
from mple.model.stem import Stem, planned_stem
from mple.model.weights import build_trunk
from mple.morph.augmented import build_augmented_layer
from mple.pki import Vault
from mple.plan import RunPlan, WireSettings
from mple.plan.orders import channel_order, label_order
from mple.rpc import Role, build_server
from mple.v1 import compute_pb2_grpc
from tests.support.served import PartyTls
from tests.support.small_plan import CLASSES, key_of, key_ref, small_plan

SIDE_PX = 28
SECRET = bytes(range(7, 39))
"""The consortium secret; the orders that it draws differ from their inverses."""
PER_MESSAGE = 5
"""Samples of 28 x 28 binary32 values that fit into the plan's 16 KiB."""
TESTS_PER_CLASS = 4
MEAN, STD = 0.5, 0.25


def finished_plan(codec: str = "f32") -> RunPlan:
    """The plan of the run that has finished."""
    plan = small_plan(side_px=SIDE_PX, wire=WireSettings(codec=codec, message_bytes=16 * 1024))
    return dataclasses.replace(plan, run_id="run1")


def stem_of(plan: RunPlan) -> Stem:
    """The plan's first convolution."""
    return planned_stem(plan.model, filters=plan.filters, channels=1)


def permuted_features(plan: RunPlan, pixels_NHW: NDArray[np.uint8]) -> Tensor:
    """Of plain pictures, in the run's channel order."""
    f_NFHW = plain_features(stem_of(plan), normalised(pixels_NHW))
    return f_NFHW[:, torch.from_numpy(channel_order(plan, SECRET))]


def opinionated_trunk(plan: RunPlan, classes: int | None = None) -> nn.Module:
    """An untrained trunk whose answers nevertheless differ from picture to picture."""
    trunk = build_trunk(plan.model, classes or len(plan.classes), seed=3)
    pixels_NHW = np.stack([picture(seed) for seed in range(1000, 1032)])
    f_NFHW = permuted_features(plan, pixels_NHW)
    last = trunk.classifier[3]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        for _ in range(30):  # batch norms take over the features' statistics
            trunk.train()(f_NFHW)
        logits_NC = trunk.eval()(f_NFHW)
        last.bias.sub_(logits_NC.mean(dim=0))
        last.weight.div_(logits_NC.std(dim=0)[:, None])
        last.bias.div_(logits_NC.std(dim=0))
    return trunk


def plain_probabilities(plan: RunPlan, trunk: nn.Module, pixels_NHW: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What the network says of plain pictures, in the site's class order: no morphing, no codec, no wire."""
    f_BFHW = permuted_features(plan, pixels_NHW)
    with torch.no_grad():
        permuted_BC = torch.softmax(trunk(f_BFHW).double(), dim=1).numpy()
    place_of = {int(label): place for place, label in enumerate(label_order(plan, SECRET))}
    return permuted_BC[:, [place_of[label] for label in range(len(CLASSES))]]


def normalised(pixels_NHW: NDArray[np.uint8]) -> Tensor:
    """Network inputs x_NCHW of grey pictures."""
    return (torch.from_numpy(pixels_NHW.copy()).float()[:, None] / 255 - MEAN) / STD


def picture(seed: int, size: tuple[int, int] = (SIDE_PX, SIDE_PX)) -> NDArray[np.uint8]:
    """Grey pixels (H, W) with some structure."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (4, 4), dtype=np.uint8))
    return np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.uint8)


def save(path: Path, pixels: NDArray[np.uint8]) -> Path:
    """Write a picture file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def predictor_of(plan: RunPlan, trunk: nn.Module) -> Predictor:
    """The compute node's answers, with a real layer of site north."""
    bank = LayerBank(plan)
    order = channel_order(plan, SECRET)
    layer = build_augmented_layer(
        plan.morph.scheme(), plan.image, stem_of(plan).kernels_FCpp, key_of("north"), order,
        session=plan.session, key_epoch=1,
    )  # fmt: skip
    bank.store(key_ref("north"), layer)
    return Predictor(plan, trunk, bank)


@contextmanager
def compute_node(party_tls: PartyTls, folder: Path, service: ComputeService, name: str = "compute") -> Iterator[str]:
    """Serve on a free port; gives the address."""
    folder.mkdir()
    with Ledger(folder / "ledger.sqlite", f"compute/{name}") as ledger:
        built = build_server("127.0.0.1:0", party_tls(Role.COMPUTE, name), ledger, streams=4)
        compute_pb2_grpc.add_ComputeServiceServicer_to_server(service, built.server)
        built.start()
        try:
            yield built.address
        finally:
            built.stop(0.5)


class Site:
    """Site north after its run."""

    def __init__(self, folder: Path, party_tls: PartyTls, plan: RunPlan) -> None:
        self.folder, self.plan, self.config = folder, plan, folder / "north.toml"
        self._tls = party_tls(Role.SITE, "north").key.parent
        self.state, self.vault = folder / "state", folder / "vault"
        self.state.mkdir(parents=True)
        (self.state / "plan.json").write_bytes(with_checksum(plan.to_json()))
        vault = Vault(self.vault)
        vault.keep_consortium_secret(plan.run_id, SECRET)
        (self.vault / "morph.key").touch(0o600)
        (self.vault / "morph.key").write_bytes(key_of("north").seed)
        self.tests_NHW: NDArray[np.uint8] = self._keep_data()
        self.dials("127.0.0.1:1")

    def dials(self, compute: str, patience_s: float = 20.0) -> None:
        """Write the site's configuration."""
        lines = [f'state = "{self.state}"', f'vault = "{self.vault}"']
        lines += [f'tls = "{self._tls}"', 'coordinator = "127.0.0.1:1"', f'compute = "{compute}"']
        lines += [f"idle_timeout_s = {patience_s}", "[data]", 'kind = "folder"', f'path = "{self.folder / "data"}"']
        self.config.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _keep_data(self) -> NDArray[np.uint8]:
        """Pictures by class; the test images in the order in which the site counts them."""
        tests = []
        for label, name in enumerate(CLASSES):
            save(self.folder / "data" / "train" / name / "a.png", picture(label))
            for number in range(TESTS_PER_CLASS):
                tests.append(picture(100 + TESTS_PER_CLASS * label + number))
                save(self.folder / "data" / "test" / name / f"{number}.png", tests[-1])
        return np.stack(tests)
