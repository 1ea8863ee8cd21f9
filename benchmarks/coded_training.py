"""One training in one process on pictures as they reach a compute node: noisy, morphed, coded, through the layer.

The settings are those of `examples/cifar10.toml` but for size and label smoothing. Seeds decide the order of samples,
the first weights and the shifts; the morph key is drawn anew each time. Pictures are coded once, morphed, and decoded
again, or written as files of a plain format and read again; then the decoded ones are morphed at each step and go
through the layer.

Legend: N pictures of a split, B of them, C channels, H W size, K blocks, Q core side.
"""

from __future__ import annotations

import dataclasses
import statistics

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.coded_pictures import FITTED_TO, decoded, packed_bytes, site_coding
from benchmarks.picture_formats import FORMATS
from mple.data import Dataset
from mple.data.normalise import normalise
from mple.data.settings import NormalisationSettings
from mple.model.first_layer.prepared import prepare_layer
from mple.model.settings import Augment, ModelSettings
from mple.model.stem import planned_stem
from mple.model.training import TrunkTrainer
from mple.model.weights import build_trunk
from mple.morph import PRESETS, Arithmetic, MorphKey, draw_order
from mple.morph.augmented import build_augmented_layer
from mple.morph.morpher import Morpher
from mple.plan import GlobalSampler, Precision, TrainingSettings
from mple.privacy import PictureNoise
from mple.wire.layer_dtype import tensors_of, weight_of

_SESSION = b"coded training"
_BITS_FROM = 2048
_SCORED_AT_ONCE = 250


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What trainings of one study share."""

    epochs: int
    width: float
    batch: int = 128
    peak_lr: float = 0.1
    stem: str | None = None
    """As `model.stem`; by default the product's."""
    init: str | None = None
    """As `model.init`; by default the product's."""

    def model(self) -> ModelSettings:
        """The network."""
        chosen = {"stem": self.stem, "init": self.init}
        return ModelSettings(width=self.width, **{name: one for name, one in chosen.items() if one is not None})


class CodedTraining:
    """Trains a VGG-16 on a data set as coded by `codec`, its layer in `layer` numbers, with a site's noise if any.

    `codec` is one of ours, or a format with its quality, as "JPEG 75": files of the plain pictures.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        codec: str,
        layer: str,
        seed: int,
        recipe: Recipe,
        noise: PictureNoise | None = None,
    ) -> None:
        self._normalisation = NormalisationSettings()
        train = dataset.train.take(np.arange(len(dataset.train.labels)))
        test = dataset.test.take(np.arange(len(dataset.test.labels)))
        self._train_N, self._test_N = torch.from_numpy(train.labels), torch.from_numpy(test.labels)
        image, scheme, key = dataset.train.shape, PRESETS["compact"], MorphKey.generate()
        self._morpher = Morpher(scheme, image, key, session=_SESSION, key_epoch=1)
        self._train_NCHW, self._test_NCHW, self.bits_per_value = _received(
            codec, train.pixels_NCHW, test.pixels_NCHW, self._normalisation, noise
        )
        self._sampler = GlobalSampler([len(train.labels)], recipe.batch, seed)
        settings = TrainingSettings(
            epochs=recipe.epochs,
            batch=recipe.batch,
            peak_lr=recipe.peak_lr,
            precision=Precision.BF16,
            augment=(Augment.SHIFT,),
            seed=seed,
        )
        model = recipe.model()
        trunk = build_trunk(model, len(dataset.classes), seed)
        self._trainer = TrunkTrainer(trunk, settings, self._sampler.steps_per_epoch * recipe.epochs)
        filters = model.filters
        stem = planned_stem(model, filters=filters, channels=image.channels)
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

    def _features(self, x_BCHW: NDArray[np.float32]) -> Tensor:
        with torch.no_grad():
            return self._layer.apply(torch.from_numpy(self._morpher.morph(x_BCHW)))


def _received(
    codec: str,
    train_NCHW: NDArray[np.uint8],
    test_NCHW: NDArray[np.uint8],
    by: NormalisationSettings,
    noise: PictureNoise | None,
) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """Network inputs of both splits as they come out of a codec, and its bits a pixel value."""
    name, _, quality = codec.rpartition(" ")
    of = next((one for one in FORMATS if one.name == name), None)
    if of is not None:
        setting = {**of.curves[0][0], "quality": int(quality)}
        files = [of.files(some, setting) for some in (train_NCHW, test_NCHW)]
        size = sum(map(len, files[0]))
        pixels = [of.pictures(some, like) for some, like in zip(files, (train_NCHW, test_NCHW), strict=True)]
        return normalise(pixels[0], by), normalise(pixels[1], by), 8 * size / train_NCHW.size
    train, test = (_released(some, by, noise) for some in (train_NCHW, test_NCHW))
    fitted_to = np.unique(np.linspace(0, len(train) - 1, FITTED_TO).astype(np.int64))
    coding = site_coding(codec, train[fitted_to])
    some = train[-_BITS_FROM:]
    return decoded(coding, train), decoded(coding, test), 8 * packed_bytes(coding, some) / some.size


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
