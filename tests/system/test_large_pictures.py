"""Three sites with pictures of 224 pixels: weights from a file, training, delivery, and another run that goes on."""

from __future__ import annotations

import dataclasses
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from mple.data import open_source
from mple.data.normalise import normalise
from mple.delivered.check import Verdict
from mple.delivered.folder import DeliveredNetwork
from mple.plan import DeliverTo, NormalisationSettings, WeightsFrom
from mple.records.run_folder import RunFolder
from mple.simulate.runner import simulate
from mple.simulate.settings import SimulationSettings
from tests.support.small_consortium import CLASSES, small_settings, write_pictures, write_weights
from tests.support.torchvision_vgg16 import TorchvisionVgg16

SITES = ("north", "east", "south")
SIDE_PX = 224


def run(settings: SimulationSettings, out: Path) -> None:
    summary = simulate(settings, out, Console(file=StringIO(), width=160), plain=True)
    assert summary is not None
    for site in SITES:
        check = DeliveredNetwork.at(RunFolder(out).state(site)).record.check
        assert (check.verdict, check.same_answers) == (Verdict.AGREES, check.pictures), check


def logits_at(settings: SimulationSettings, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """Of the first site's test pictures, by torchvision's own architecture."""
    pixels_NCHW = open_source(settings.site_source(0)).test.pixels_NCHW
    x_NCHW = torch.from_numpy(normalise(pixels_NCHW, NormalisationSettings()))
    network = TorchvisionVgg16(batch_norm=True, width=0.0625, channels=x_NCHW.shape[1], classes=CLASSES)
    network.load_state_dict(weights, strict=False)
    with torch.no_grad():
        logits_NC: torch.Tensor = network.eval()(x_NCHW)
    return logits_NC


@pytest.mark.slow
@pytest.mark.parametrize("channels", [3, 1])
def test_large_pictures_begin_with_a_file_and_end_at_the_sites(tmp_path: Path, channels: int) -> None:
    """The second run trains next to nothing, so that what it delivers is what the first has trained."""
    pictures = write_pictures(tmp_path / "set.npz", train=48, test=18, side=SIDE_PX, channels=channels)
    write_weights(tmp_path)  # for three channels
    first = small_settings(pictures, epochs=2, sites=SITES, weights=WeightsFrom.FEATURES, deliver=DeliverTo.SITES)
    run(first, tmp_path / "first")
    delivered = RunFolder(tmp_path / "first").state("east") / "model" / "model.safetensors"
    second = dataclasses.replace(
        first,
        model=dataclasses.replace(first.model, weights=WeightsFrom.NETWORK),
        training=dataclasses.replace(first.training, epochs=1, peak_lr=1e-12, frozen_stages=5),
        weights_file=delivered,
    )
    run(second, tmp_path / "second")
    again = RunFolder(tmp_path / "second").state("south") / "model" / "model.safetensors"
    before, after = (logits_at(first, load_file(path)) for path in (delivered, again))
    assert before.std() > 1e-3
    np.testing.assert_allclose(after.numpy(), before.numpy(), rtol=0, atol=1e-4)
