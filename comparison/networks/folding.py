"""Trained networks made into plain stages: batch norms and the pixels' normalisation go into the convolutions.

A run's trunk takes the stem's features in the secret channel order and gives its logits in the secret label order; only
sites know both. Of a simulation all nodes lie in one folder, so that both can be found there.

Legend: O I channels out and in, p kernel side, F filters of the stem.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from comparison.networks.float_network import FloatNetwork, FloatStage
from comparison.networks.minionn import CONVOLUTIONS, NORMALISATION, SIDE_PX, Minionn
from comparison.networks.quantised import Pool
from mple.data.settings import NormalisationSettings
from mple.model.stem import Stem, planned_stem
from mple.model.weights import build_trunk, load_trunk
from mple.morph import ImageShape
from mple.plan import TaskKind
from mple.plan.orders import channel_order, label_order
from mple.records.run_folder import RunFolder
from mple.records.state_files import MODEL

VGG16_SIDE_PX = 32
"""At which five pools leave one position, so that the mean over positions is none."""


def folded_minionn(network: Minionn) -> FloatNetwork:
    """MiniONN's network as seven convolutions and a dense layer; its logits are those of evaluation mode."""
    stages, scale = [], 1.0
    for number, (convolution, norm, (_, _, _, pooled)) in enumerate(
        zip(network.convolutions, network.norms, CONVOLUTIONS, strict=True), start=1
    ):
        assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        weights_OIpp, bias_O = folded(convolution.weight.detach(), norm)
        pool: Pool = "sum" if pooled else "none"
        stages.append(FloatStage(name=f"conv{number}", weights_OIpp=weights_OIpp * scale, bias_O=bias_O, pool=pool))
        scale = 0.25 if pooled else 1.0
    dense = network.dense
    stages.append(_dense(dense.weight.detach() * scale, dense.bias.detach()))
    return _on_pixels("minionn", 3, SIDE_PX, stages, NORMALISATION)


def vgg16_of_run(folder: Path, stem: Stem | None = None) -> FloatNetwork:
    """The VGG-16 of a finished simulation, taking plain pictures and giving its classes in the data's order.

    Args:
        folder: Of the simulation, with `plan.json`, `model.safetensors` and all nodes.
        stem: The one that was offered in the run; left out, the one of the plan's seed.

    Raises ValueError: the folder is of no finished simulation or of one by several labels, the stem is not the run's,
    or pictures are not 32 x 32.
    """
    run = RunFolder.finished(folder)
    plan = run.plan()
    if plan.task.kind is TaskKind.LABELS:
        raise ValueError(f"the run in {folder} is by several labels; what is compared here are classes")
    model = plan.model
    stem = planned_stem(model, filters=plan.filters, channels=plan.channels, offered=stem)
    if stem.digest().hex() != plan.stem_digest:
        raise ValueError(f"the run in {folder} had another stem; pass the one that was offered to it")
    trunk = build_trunk(model, len(plan.classes), plan.training.seed)
    load_trunk(trunk, folder / MODEL)
    secret = run.vault(plan.sites[0].name).consortium_secret(plan.run_id)
    return folded_vgg16(
        stem,
        trunk,
        plan.normalisation,
        channels=channel_order(plan, secret),
        labels=label_order(plan, secret),
        side_px=plan.height,
    )


def folded_vgg16(
    stem: Stem,
    trunk: nn.Module,
    normalisation: NormalisationSettings,
    *,
    channels: NDArray[np.int64] | None = None,
    labels: NDArray[np.int64] | None = None,
    side_px: int = VGG16_SIDE_PX,
) -> FloatNetwork:
    """Stem and trunk as thirteen convolutions and a dense layer.

    Args:
        stem: The first convolution.
        trunk: All behind it, as `mple plain` or a run leaves it.
        normalisation: Of the pictures.
        channels: The order that the trunk takes the stem's features in; left out, the stem's own.
        labels: Place j of the trunk's logits is class `labels[j]`; left out, class j.
        side_px: Of the pictures.

    Raises ValueError: pictures are not 32 x 32.
    """
    if side_px != VGG16_SIDE_PX:
        raise ValueError(f"pictures of {side_px} pixels a side; only VGG-16 for {VGG16_SIDE_PX} can be made of stages")
    kernels_FCpp = torch.from_numpy(stem.kernels_FCpp if channels is None else stem.kernels_FCpp[channels])
    stages: list[FloatStage] = []
    weights_OIpp = kernels_FCpp
    layers = [layer for layer in trunk.get_submodule("features").children() if not isinstance(layer, nn.ReLU)]
    for layer, following in pairwise([*layers, None]):
        if isinstance(layer, nn.Conv2d):
            weights_OIpp = layer.weight.detach()
        elif isinstance(layer, nn.BatchNorm2d):
            kernels, bias_O = folded(weights_OIpp, layer)
            pool: Pool = "max" if isinstance(following, nn.MaxPool2d) else "none"
            stages.append(FloatStage(name=f"conv{len(stages) + 1}", weights_OIpp=kernels, bias_O=bias_O, pool=pool))
    linear = trunk.get_submodule("classifier.3")
    assert isinstance(linear, nn.Linear)
    places = torch.arange(linear.out_features) if labels is None else torch.from_numpy(np.argsort(labels))
    stages.append(_dense(linear.weight.detach()[places], linear.bias.detach()[places]))
    return _on_pixels("vgg16", stem.channels, side_px, stages, normalisation)


def folded(weights_OIpp: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weights and bias of the convolution that is this one, without bias, and the norm in evaluation mode behind it."""
    assert norm.running_var is not None and norm.running_mean is not None
    factor_O = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
    bias_O = norm.bias.detach() - norm.running_mean * factor_O
    return (weights_OIpp * factor_O[:, None, None, None]).contiguous(), bias_O


def _dense(weights_OI: Tensor, bias_O: Tensor) -> FloatStage:
    return FloatStage(name="dense", weights_OIpp=weights_OI[:, :, None, None].contiguous(), bias_O=bias_O, flatten=True)


def _on_pixels(
    name: str, channels: int, side_px: int, stages: Sequence[FloatStage], normalisation: NormalisationSettings
) -> FloatNetwork:
    """The first stage put onto pixels less a whole offset, where a normalised network has (pixel / 255 - mean) / std.
    What the offset's rounding leaves, half a grey level at most, goes into the bias; at the border, where some of the
    kernel lies on padding, that is not exact."""
    if len(set(normalisation.mean)) != 1:
        raise ValueError(f"means {normalisation.mean}; only networks with one mean for all channels can take integers")
    offset = min(255, round(255 * normalisation.mean[0]))
    first = stages[0]
    std_C = torch.tensor(normalisation.std * (channels if len(normalisation.std) == 1 else 1), dtype=torch.float32)
    weights_OIpp = first.weights_OIpp / (255 * std_C)[None, :, None, None]
    bias_O = first.bias_O + weights_OIpp.sum((1, 2, 3)) * (offset - 255 * normalisation.mean[0])
    return FloatNetwork(
        name=name,
        input_shape=ImageShape(channels=channels, height=side_px, width=side_px),
        stages=(FloatStage(name=first.name, weights_OIpp=weights_OIpp, bias_O=bias_O, pool=first.pool), *stages[1:]),
        pixel_offset=offset,
    )
