"""One training in one process on pictures as they reach a compute node: noisy, morphed, coded, through the layer.

The settings are those of `examples/cifar10.toml` but for size. Seeds decide the order of samples, the first weights and
the shifts; the morph key is drawn anew each time.

Legend: N pictures of a split, B of them, C channels, H W size, K blocks, Q core side.
"""

from __future__ import annotations

import dataclasses
import statistics

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mple.data import Dataset
from mple.data.normalise import normalise
from mple.data.settings import NormalisationSettings
from mple.model.first_layer.prepared import prepare_layer
from mple.model.settings import Augment, ModelSettings
from mple.model.stem import Stem
from mple.model.training import TrunkTrainer
from mple.model.weights import build_trunk
from mple.morph import PRESETS, Arithmetic, MorphKey, draw_order
from mple.morph.augmented import build_augmented_layer
from mple.morph.morpher import Morpher
from mple.plan import GlobalSampler, Precision, TrainingSettings
from mple.privacy import PictureNoise
from mple.wire.codecs import codec_named
from mple.wire.layer_dtype import tensors_of, weight_of

_SESSION = b"coded training"
_BITS_FROM = 2048
_MESSAGE_SAMPLES = 128
_SCORED_AT_ONCE = 250


class CodedTraining:
    """Trains a VGG-16 on a data set as coded by `codec`, its layer in `layer` numbers, with a site's noise if any."""

    def __init__(
        self,
        dataset: Dataset,
        *,
        codec: str,
        layer: str,
        seed: int,
        epochs: int,
        width: float,
        noise: PictureNoise | None = None,
    ) -> None:
        self._normalisation, self._codec = NormalisationSettings(), codec_named(codec)
        train = dataset.train.take(np.arange(len(dataset.train.labels)))
        test = dataset.test.take(np.arange(len(dataset.test.labels)))
        self._train_N, self._test_N = torch.from_numpy(train.labels), torch.from_numpy(test.labels)
        image, scheme, key = dataset.train.shape, PRESETS["compact"], MorphKey.generate()
        self._morpher = Morpher(scheme, image, key, session=_SESSION, key_epoch=1)
        self._train_NCHW = _released(train.pixels_NCHW, self._normalisation, noise)
        self._test_NCHW = _released(test.pixels_NCHW, self._normalisation, noise)
        self._sampler = GlobalSampler([len(train.labels)], 128, seed)
        settings = TrainingSettings(
            epochs=epochs, peak_lr=0.1, precision=Precision.BF16, augment=(Augment.SHIFT,), seed=seed
        )
        trunk = build_trunk(ModelSettings(width=width), len(dataset.classes), seed)
        self._trainer = TrunkTrainer(trunk, settings, self._sampler.steps_per_epoch * epochs)
        filters = trunk.config.filters
        stem = Stem.from_seed("mple-stem-1", filters=filters, channels=image.channels, kernel=3)
        order = draw_order(bytes(32), "channel order", filters)
        built = build_augmented_layer(scheme, image, stem.kernels_FCpp, key, order, session=_SESSION, key_epoch=1)
        received = weight_of(tensors_of(built.weight, layer), layer)
        arithmetic = Arithmetic.BF16 if settings.precision is Precision.BF16 else Arithmetic.F32
        self._layer = prepare_layer(dataclasses.replace(built, weight=received), arithmetic)

    def epoch(self, epoch: int) -> float:
        """Mean loss of an epoch."""
        losses = []
        for step in range(self._sampler.steps_per_epoch):
            numbers = self._sampler.step(epoch, step)
            losses.append(self._trainer.step(self._features(self._train_NCHW[numbers]), self._train_N[numbers]))
        return statistics.fmean(losses)

    def accuracy(self) -> float:
        """Over all test pictures, released as those of training are."""
        right = 0
        for low in range(0, len(self._test_N), _SCORED_AT_ONCE):
            rows = slice(low, low + _SCORED_AT_ONCE)
            guessed_B = self._trainer.logits(self._features(self._test_NCHW[rows])).argmax(1)
            right += int((guessed_B == self._test_N[rows]).sum())
        return right / len(self._test_N)

    def bits_per_value(self) -> float:
        """Of packed messages."""
        packed = values = 0
        for low in range(0, min(_BITS_FROM, len(self._train_NCHW)), _MESSAGE_SAMPLES):
            t_BKQ = self._morpher.morph(self._train_NCHW[low : low + _MESSAGE_SAMPLES])
            packed += len(self._codec.pack(self._codec.encode(t_BKQ)))
            values += t_BKQ.size
        return 8 * packed / values

    def _features(self, x_BCHW: NDArray[np.float32]) -> Tensor:
        t_BKQ = self._morpher.morph(x_BCHW)
        received_BKQ = self._codec.decode(self._codec.encode(t_BKQ), t_BKQ.shape[1])
        with torch.no_grad():
            return self._layer.apply(torch.from_numpy(received_BKQ))


def _released(
    pixels_NCHW: NDArray[np.uint8], by: NormalisationSettings, noise: PictureNoise | None
) -> NDArray[np.float32]:
    """Network inputs before morphing."""
    parts = []
    for low in range(0, len(pixels_NCHW), _SCORED_AT_ONCE):
        pixels_BCHW = pixels_NCHW[low : low + _SCORED_AT_ONCE]
        x_BCHW = normalise(pixels_BCHW, by)
        parts.append(x_BCHW if noise is None else noise.add(x_BCHW, pixels_BCHW))
    return np.concatenate(parts)
