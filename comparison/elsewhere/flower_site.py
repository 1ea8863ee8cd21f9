"""A site of a Flower federation. Runs in Flower's own environment, with mple's network and training step.

    python -m comparison.elsewhere.flower_site FOLDER SITE ADDRESS

FOLDER holds `run.json`, known to all, and a folder for the site with its pictures and labels as .npy files.

Legend: N pictures, B samples of a step.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flwr.client  # type: ignore[import-not-found]
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from comparison.elsewhere.steps import step_teller
from comparison.peak_memory import peak_memory_bytes
from mple.data.normalise import normalise
from mple.data.settings import NormalisationSettings
from mple.model.first_layer.plain import plain_features
from mple.model.settings import ModelSettings
from mple.model.stem import planned_stem
from mple.model.training import TrunkTrainer
from mple.model.weights import build_trunk
from mple.plan import GlobalSampler, TrainingSettings, settings_from

_CHANNELS = 3


def main(folder: Path, name: str, address: str) -> None:
    """Take part in all rounds, then tell the use of this process."""
    tell = step_teller()
    run = Run(folder)
    site = Site(run, np.load(folder / name / "pixels.npy"), np.load(folder / name / "labels.npy"), run.place(name))
    tell({"step": "loaded"})
    flwr.client.start_client(server_address=address, client=site.to_client(), insecure=True)
    tell({"step": "done", "peak_bytes": peak_memory_bytes()})


class Run:
    """What all processes of a federation know: the network, how it is trained, and its pictures' normalisation."""

    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        self.sites: tuple[str, ...] = tuple(about["sites"])
        self.rounds: int = about["rounds"]
        self.training = settings_from(TrainingSettings, about["training"])
        self._model, self._classes = ModelSettings(width=about["width"]), int(about["classes"])
        self._stem = planned_stem(self._model, filters=self._model.filters, channels=_CHANNELS)
        self._normalisation = NormalisationSettings()
        torch.set_num_threads(about["threads"])

    def place(self, name: str) -> int:
        """Of a site among all."""
        return self.sites.index(name)

    def trunk(self) -> nn.Module:
        """With its first weights, the same everywhere."""
        return build_trunk(self._model, self._classes, self.training.seed)

    def features(self, pixels_BCHW: NDArray[np.uint8], trainer: TrunkTrainer) -> torch.Tensor:
        """Of the frozen stem."""
        with torch.no_grad(), trainer.autocast():
            return plain_features(self._stem, torch.from_numpy(normalise(pixels_BCHW, self._normalisation)))


class Site(flwr.client.NumPyClient):  # type: ignore[misc]
    """Trains one epoch on its own pictures whenever the server asks for it."""

    def __init__(self, run: Run, pixels_NCHW: NDArray[np.uint8], labels_N: NDArray[np.int64], place: int) -> None:
        self._run, self._pixels_NCHW, self._labels_N = run, pixels_NCHW, torch.from_numpy(labels_N)
        seed = run.training.seed + place
        self._sampler = GlobalSampler([len(labels_N)], run.training.batch, seed)
        self._total_steps = self._sampler.steps_per_epoch * run.rounds
        self._trunk = run.trunk()
        self._rates: torch.Tensor | None = None

    def fit(self, parameters: Sequence[NDArray[np.float32]], config: dict[str, Any]) -> tuple[Any, int, dict[str, Any]]:
        """One epoch from the server's weights: the weights after it, the number of samples, the mean loss. Momentum
        begins at zero in each round, as in federated averaging; the learning rate goes on along one cycle over all
        rounds."""
        epoch = int(config["round"]) - 1
        put(self._trunk, parameters)
        trainer = TrunkTrainer(self._trunk, self._run.training, self._total_steps)
        if self._rates is not None:
            weights = {f"trunk.{name}": tensor for name, tensor in self._trunk.state_dict().items()}
            trainer.restore({**weights, "learning_rates": self._rates}, epoch * self._sampler.steps_per_epoch)
        losses = []
        for step in range(self._sampler.steps_per_epoch):
            numbers = self._sampler.step(epoch, step)
            features = self._run.features(self._pixels_NCHW[numbers], trainer)
            losses.append(trainer.step(features, self._labels_N[numbers]))
        self._rates = trainer.state()["learning_rates"]
        return exchanged(self._trunk), len(self._labels_N), {"loss": float(np.mean(losses))}


def exchanged(trunk: nn.Module) -> list[NDArray[np.float32]]:
    """Weights and statistics of batch norm in the order of their names; the counters of batches stay at home."""
    return [tensor.numpy().copy() for tensor in _floating(trunk).values()]


def put(trunk: nn.Module, arrays: Sequence[NDArray[np.float32]]) -> None:
    """Set what `exchanged` gives."""
    with torch.no_grad():
        for tensor, array in zip(_floating(trunk).values(), arrays, strict=True):
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(array)))


def _floating(trunk: nn.Module) -> dict[str, torch.Tensor]:
    state = trunk.state_dict()
    return {name: state[name] for name in sorted(state) if state[name].is_floating_point()}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
