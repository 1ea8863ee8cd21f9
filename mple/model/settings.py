"""What a consortium decides about its network and its training, each field with range and unit."""

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Annotated

from mple.model.trunks import TRUNKS
from mple.morph import Arithmetic
from mple.ranges import Between, OneOf, check_ranges


class WeightsFrom(StrEnum):
    """Where a network's weights come from before the first step."""

    SEED = "seed"
    """The stem is as `model.stem` says, the others are drawn from `training.seed`."""
    FEATURES = "features"
    """All convolutions from the compute node's `weights_file`; the last layer is drawn."""
    NETWORK = "network"
    """The last layer from the file, too, whose classes must be the run's, in their order."""


class Precision(StrEnum):
    """Arithmetic of the trunk during training."""

    F32 = "f32"
    BF16 = "bf16"


class DeviceName(StrEnum):
    """What a compute node trains on."""

    AUTO = "auto"
    """A CUDA device where torch finds one, else the processor."""
    CPU = "cpu"
    """The processor."""
    CUDA = "cuda"
    """A CUDA device; with several processes on a machine each has its own."""


class Augment(StrEnum):
    """What the compute node does to feature maps, in each epoch otherwise."""

    SHIFT = "shift"
    """Moved by up to `shift_px` along each axis."""
    MIRROR = "mirror"
    """Left to right, half of the samples; needs `model.stem_mirrored = true`."""
    ERASE = "erase"
    """A rectangle set to zero, which is what a picture of the normalisation's mean gives."""


_OF_KIND = {
    "shift_px": Augment.SHIFT,
    "erase_share": Augment.ERASE,
    "erase_least": Augment.ERASE,
    "erase_most": Augment.ERASE,
}
"""Settings that concern one kind alone."""


class OptimiserName(StrEnum):
    """How gradients change the weights."""

    SGD = "sgd"
    """Stochastic gradient descent with Nesterov's momentum."""
    ADAMW = "adamw"
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019)."""


class Keep(StrEnum):
    """Which epoch's network a training comes to."""

    BEST = "best"
    """The one that was best on validation images."""
    LAST = "last"


_DEFAULT_PEAK = {OptimiserName.SGD: 0.1, OptimiserName.ADAMW: 0.002}
_MOST_ADAMW_LR = 0.05
_STEM_SEED = "mple-stem-1"
_DEFAULT_DECAY = {OptimiserName.SGD: 5e-4, OptimiserName.ADAMW: 0.01}


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSettings:
    """The shared network."""

    trunk: Annotated[str, OneOf(TRUNKS)] = "vgg16"
    """Kind of the network behind its first convolution."""
    width: Annotated[float, Between(0.0625, 1)] = 1.0
    """Factor on all channel counts; 1 is VGG-16."""
    kernel: Annotated[int, OneOf((1, 3, 5, 7))] = 3
    """Side of the first convolution's kernels, in pixels."""
    dropout: Annotated[float, Between(0, 1, below=True)] = 0.0
    """Share of features dropped before the last layer."""
    weights: WeightsFrom = WeightsFrom.SEED
    """Where the network's weights come from before the first step."""
    init: Annotated[str, OneOf(("he", "identity"))] = "identity"
    """How convolutions that no file brings begin: `he` draws their weights, normal with variance 2 / inputs (He et al.,
    2015); `identity` draws alike, but has the first filters hand each input channel on as it is, as DiracNets do
    (Zagoruyko & Komodakis, 2017), so that a deep network begins as a shallow one. A trunk learns sooner from there."""
    stem: Annotated[str, OneOf(("seed", "whitening", "offered"))] | None = None
    """Where the first convolution comes from: `seed` draws it from `stem_seed`; `whitening` makes
    features of natural pictures that hardly correlate, from a table of the package; with `offered` the compute node
    brings a safetensors file. By default `whitening`; with weights of a file it is that file's, and this is left
    out."""
    stem_seed: str = _STEM_SEED
    """Published seed of the first convolution, for `stem = "seed"`."""
    stem_mirrored: bool = False
    """Whether the first convolution holds each of its kernels' left-right mirror images, which "mirror" in
    `training.augment` needs: a seeded or whitening one is made so, an offered one that does not is refused."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.weights is not WeightsFrom.SEED and self.stem is not None:
            raise ValueError(
                f'stem = "{self.stem}" with weights = "{self.weights}": the first convolution is that of the file of '
                "weights then; leave stem out"
            )
        if self.stem in (None, "whitening") and self.stem_seed != _STEM_SEED:
            raise ValueError(
                f'stem_seed = "{self.stem_seed}" would change nothing where no stem is drawn from it; set stem = '
                '"seed", or leave stem_seed out'
            )

    @property
    def from_file(self) -> bool:
        """Whether the network begins with weights of a file."""
        return self.weights is not WeightsFrom.SEED

    @property
    def stem_offered(self) -> bool:
        """Whether the compute node brings the first convolution: by itself, or as part of its file of weights."""
        return self.from_file or self.stem == "offered"

    @property
    def filters(self) -> int:
        """Output channels of the first convolution."""
        return TRUNKS[self.trunk].filters(self.width)


class TaskKind(StrEnum):
    """What the network says of a picture."""

    CLASSES = "classes"
    """Which one class it is of: softmax."""
    LABELS = "labels"
    """Of each label whether it has it: sigmoid. A label that is unknown of a picture is not learned from there, and
    never taken for absent."""


class ClassWeights(StrEnum):
    """How much the samples of a class count in the loss; of labels, those that have one and those that don't."""

    NONE = "none"
    """All alike."""
    INVERSE = "inverse"
    """By 1/n, where n training samples of all sites are of the class: all classes together count alike."""
    EFFECTIVE = "effective"
    """By 1/((1 - b^n)/(1 - b)), b being `effective_beta`, the effective number of samples of Cui et al. (2019)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskSettings:
    """What is to be learned. All sites' data must be of this kind."""

    kind: TaskKind = TaskKind.CLASSES
    class_weights: ClassWeights = ClassWeights.NONE
    effective_beta: Annotated[float, Between(0, 1, above=True, below=True)] = 0.999
    """Of `effective`: near 0 all classes count alike, near 1 it is `inverse`."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.class_weights is not ClassWeights.EFFECTIVE and self.effective_beta != 0.999:
            raise ValueError(
                f'effective_beta = {self.effective_beta:g} with class_weights = "{self.class_weights}" would change '
                'nothing; set class_weights = "effective"'
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSettings:
    """Training with a one-cycle learning rate."""

    epochs: Annotated[int, Between(1, 10_000)] = 4
    """How often training goes over all samples; with an early end, at most."""
    batch: Annotated[int, Between(2, 65_536)] = 128
    """Samples of all sites in one step, of all ranks together."""
    ranks: Annotated[int, Between(1, 1024)] = 1
    """Processes that train together, each with its own share of the samples; the compute node must be started with as
    many, by `torchrun`. Equal weights come of equal numbers of ranks only."""
    keep: Keep | None = None
    """Which epoch's network is kept; by default `best` where a site has validation images, else `last`."""
    keep_by: str = "loss"
    """The metric of validation by which an epoch is judged."""
    patience_epochs: Annotated[int, Between(1, 10_000)] | None = None
    """Training ends early once so many epochs in a row were not better than the best one; by default never. The cycle
    of the learning rate is planned for all `epochs`, so that an early end comes before it has fallen."""
    optimiser: OptimiserName = OptimiserName.SGD
    peak_lr: Annotated[float, Between(0, 10, above=True)] | None = None
    """Highest learning rate of the cycle; by default 0.1 with `sgd`, 0.002 with `adamw`."""
    warmup_share: Annotated[float, Between(0, 1, above=True, below=True)] = 0.25
    """Part of all steps in which the learning rate rises."""
    momentum: Annotated[float, Between(0, 1, below=True)] = 0.9
    """Share of each step that is carried into the next; of `adamw` its first beta."""
    weight_decay: Annotated[float, Between(0)] | None = None
    """On weights of convolutions and the last layer only; by default 0.0005 with `sgd`, 0.01 with `adamw`."""
    label_smoothing: Annotated[float, Between(0, 1, below=True)] = 0.0
    """Share of a sample's label that is spread evenly over all classes, or over there and absent: the network is to be
    less sure. Losses that are told while training are of smoothed labels; scores never are."""
    features_lr: Annotated[float, Between(0, 1, above=True)] = 1.0
    """Factor on the learning rate of convolutions and batch norms; the last layer has the whole rate. Weights from a
    file want less than drawn ones."""
    frozen_stages: Annotated[int, Between(0, 5)] = 0
    """So many of the five stages of convolutions, the first ones, keep the weights and the statistics of their batch
    norms that they have from a file; stages end at the pools."""
    precision: Precision = Precision.F32
    """Arithmetic of the trunk during training."""
    layer_arithmetic: Arithmetic | None = None
    """Arithmetic of augmented layers; by default `f32` with precision f32, `int8` with bf16. `int8` concerns unrolled
    layers only, tiled ones have bf16 then; it takes half the time and memory of `bf16`, and with a codec `q4` to `q8`
    and `wire.layer = "int8"` rounds nothing further. `f32` is exact and slow."""
    augment: tuple[Augment, ...] = ()
    """A list: how samples vary from epoch to epoch, by what the compute node does to their feature maps. Nothing more
    crosses the wire."""
    shift_px: Annotated[int, Between(1, 32)] = 2
    """Largest shift of feature maps along each axis, in pixels, for `shift`."""
    erase_share: Annotated[float, Between(0, 1, above=True)] = 0.5
    """Part of the samples that have a rectangle of their feature maps set to zero, for `erase`."""
    erase_least: Annotated[float, Between(0, 1, above=True)] = 0.02
    """Smallest part of a map that is erased."""
    erase_most: Annotated[float, Between(0, 1, above=True)] = 0.25
    """Largest part of a map that is erased."""
    seed: Annotated[int, Between(0, 2**63 - 1)] = 1
    """Of the order of samples, the first weights, dropout and augmentation. Published, not secret."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.optimiser is OptimiserName.ADAMW and self.highest_lr > _MOST_ADAMW_LR:
            raise ValueError(
                f'peak_lr = {self.highest_lr:g} with optimiser = "adamw", whose steps are as long as the rate itself: '
                f"allowed are up to {_MOST_ADAMW_LR:g}, left out it is {_DEFAULT_PEAK[self.optimiser]:g}"
            )
        if len(set(self.augment)) != len(self.augment):
            raise ValueError(f"augment = {list(map(str, self.augment))}; name each kind once")
        for setting in fields(self):
            kind = _OF_KIND.get(setting.name)
            if kind is not None and kind not in self.augment and getattr(self, setting.name) != setting.default:
                raise ValueError(
                    f'{setting.name} = {getattr(self, setting.name)} without "{kind}" in augment would change nothing; '
                    "add it, or leave the setting out"
                )
        if self.erase_least > self.erase_most:
            raise ValueError(f"erase_least = {self.erase_least:g} is above erase_most = {self.erase_most:g}")
        if self.precision is Precision.F32 and self.layer_arithmetic not in (None, Arithmetic.F32):
            raise ValueError(f"layer_arithmetic = {self.layer_arithmetic} with precision = f32; needs precision = bf16")

    @property
    def highest_lr(self) -> float:
        """Of the cycle, also where `peak_lr` was left out."""
        return _DEFAULT_PEAK[self.optimiser] if self.peak_lr is None else self.peak_lr

    @property
    def decay(self) -> float:
        """Of weights, also where `weight_decay` was left out."""
        return _DEFAULT_DECAY[self.optimiser] if self.weight_decay is None else self.weight_decay

    @property
    def first_layer(self) -> Arithmetic:
        """Of augmented layers, also where it was left out."""
        return self.layer_arithmetic or (Arithmetic.F32 if self.precision is Precision.F32 else Arithmetic.INT8)
