"""How much memory each node of a run takes, foreseen from the plan before anything of it is taken. Pure.

What a node holds all the time adds up; of what it does one after the other the largest counts. Figures that a plan does
not decide (an interpreter with its libraries, buffers, what torch keeps beside its tensors) are measured:
`python -m benchmarks.memory` compares forecasts with the peaks of real nodes.

Legend: Q core side, K blocks, N' = K·Q.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from mple.model.settings import Augment, OptimiserName, Precision
from mple.model.trunks import TRUNKS
from mple.morph import Cores, Ensemble, ImageShape, Layout, MorphGeometry, expected_weight_shape
from mple.morph.arithmetic import Arithmetic
from mple.plan.run_plan import RunPlan
from mple.plan.settings import Custody, DeliverTo, RunChoices
from mple.wire.names import TRANSFORM_CODECS

MIB = 1024**2
_SITE_PROGRAM, _COORDINATOR_PROGRAM, _TRAINER_PROGRAM = 96 * MIB, 106 * MIB, 416 * MIB
"""Interpreter, libraries and gRPC's buffers once they are in use."""
_CUDA_PROGRAM = 2560 * MIB
"""What CUDA's libraries take of the machine's memory beside: not measured, there was no device."""
_CUDA_CONTEXT = 1024 * MIB
"""And of the device's; not measured either."""
_A_SITE = 256 * 1024
"""Of a compute node and a coordinator for each site: streams and messages in flight, events, books."""
_FURTHER_SITE = 3 * MIB
"""Of a process for each site beside the first: its channels, threads, ledger and log."""
_LAYER_FILE_BYTES = {"coded": 1, "int8": 1, "f16": 2, "f32": 4}
_APPLIED_BYTES = {Arithmetic.F32: 4, Arithmetic.BF16: 2, Arithmetic.INT8: 1}
_DELIVERED_COPIES = 6
"""Of all weights in a site's memory at a time: as they came and in order, as two files, as products take them."""
_STATE_COPIES = 4
"""Of weights and moments while a checkpoint is written: copied, in the file's order, as bytes, as a file."""
_CORE_COPIES = 5
"""Of a core while it is drawn and made orthogonal, in float64."""
_WORK_BYTES = 36 * MIB
"""Of chunks that layers are built from and pictures are morphed in, and of what a layer is looked at in."""
_BAND_COLUMNS = 8192
"""Outputs of an unrolled layer that are laid out at a time, at least those of a row of pixels."""
_ROWS_AT_ONCE = 256
"""Of a layer, when it is coded, or looked at in float64."""
_SCORED_AT_ONCE = 250
_DRAWN_VALUES, _LEAST_DRAWS, _POOLED_DRAWS, _SCORES_BYTES = 2**18, 16, 500, 24 * MIB
"""Of intervals: values of a site's own samples drawn at once, draws of them at least, draws of pooled tallies, and what
histograms and their draws take, which the sites of a process work out once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSize:
    """What a run's memory depends on beside its choices: sums over all sites."""

    image: ImageShape
    classes: int
    sites: int
    train: int
    val: int
    test: int

    @classmethod
    def of(cls, plan: RunPlan) -> "RunSize":
        """Of a plan."""
        return cls(
            image=plan.image,
            classes=len(plan.classes),
            sites=len(plan.sites),
            train=sum(site.train_images for site in plan.sites),
            val=sum(site.val_images for site in plan.sites),
            test=sum(site.test_images for site in plan.sites),
        )

    @property
    def images(self) -> int:
        """Of all splits."""
        return self.train + self.val + self.test


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """Bytes by what they are for."""

    program: int
    """Once a process, however many nodes it holds."""
    held: Mapping[str, int] = field(default_factory=dict)
    """All the time."""
    passing: Mapping[str, int] = field(default_factory=dict)
    """One after the other."""

    @property
    def total(self) -> int:
        """Most at a time."""
        return self.program + sum(self.held.values()) + max(self.passing.values(), default=0)

    def text(self) -> str:
        """All parts, for people."""
        held = [f"{what} {size_text(count)}" for what, count in {"program": self.program, **self.held}.items()]
        passing = [f"{what} {size_text(count)}" for what, count in self.passing.items() if count]
        then = f"; one after the other {', '.join(passing)}" if passing else ""
        return f"{size_text(self.total)}: {', '.join(held)}{then}"


def size_text(count: int) -> str:
    """Bytes, as forecasts say them."""
    return f"{count / 1024**3:,.1f} GiB" if count >= 1024**3 else f"{count / MIB:,.0f} MiB"


def site_memory(
    choices: RunChoices, size: RunSize, images: int, pixel_bytes: int, *, sites: int = 1, at_once: int = 1
) -> Forecast:
    """Of a process of sites, from their joining to their end.

    Args:
        choices: Of the run.
        size: Of the run.
        images: Pictures of all sites of the process.
        pixel_bytes: What of them is in memory; those of large splits lie in files.
        sites: How many it holds.
        at_once: So many of them build a layer or look at the network at a time, and no more.
    """
    scheme, geometry = choices.morph.scheme(), MorphGeometry.of(choices.morph.scheme(), size.image)
    cores = geometry.blocks if scheme.cores is Cores.DISTINCT else 1
    core = 8 * geometry.core_side**2
    weights = 4 * TRUNKS[choices.model.trunk].weights(choices.model.width, size.classes)
    network = _WORK_BYTES + _DELIVERED_COPIES * weights if choices.delivery.to is DeliverTo.SITES else 0
    turns = min(sites, at_once)
    return Forecast(
        program=_SITE_PROGRAM,
        held={
            "pictures": pixel_bytes + 8 * images,
            "scores": 8 * size.classes * images,
            "further sites": (sites - 1) * _FURTHER_SITE,
        },
        passing={
            "building layers": turns * _building(choices, size.image),
            "morphing": turns * _WORK_BYTES
            + sites * max((cores - 1 + _drawing(choices)) * core, cores * core * 7 // 2),
            "putting the network together": turns * network,
            "judging the network": _judging(size, turns),
        },
    )


def coordinator_memory(choices: RunChoices, size: RunSize, custody: Custody) -> Forecast:
    """Of the coordinator: one layer is under review at a time, or built by it in escrow custody, beside the first one
    that it is compared with."""
    values, file_bytes = layer_values(size.image, choices), _LAYER_FILE_BYTES[choices.wire.layer]
    build = _building(choices, size.image) if custody is Custody.ESCROW else 0
    return Forecast(
        program=_COORDINATOR_PROGRAM,
        held={"sites": size.sites * _A_SITE},
        passing={
            "a layer under review": _WORK_BYTES
            + (4 + file_bytes) * values
            + 3 * 8 * min(values, _ROWS_AT_ONCE * _row_values(choices, size.image)),
            "building a layer": build,
        },
    )


def trainer_memory(
    choices: RunChoices, size: RunSize, *, cuda: bool = False, custody: Custody = Custody.SITE
) -> Forecast:
    """Of one rank of the compute node in the machine's memory. On CUDA that is what passes through there; the rest is
    in `device_memory`. In escrow custody it folds bases into layers: both are in memory, in float32."""
    training, ranks = choices.training, choices.training.ranks
    values, applied = layer_values(size.image, choices), _applied_bytes(choices)
    state = _state_bytes(choices, size)
    length = MorphGeometry.of(choices.morph.scheme(), size.image).morphed_elements
    batch = max(_batch(choices, size), _scored(size))
    labels = 8 if choices.task.kind == "classes" else size.classes
    kept_on_device = (
        {}
        if cuda
        else {
            "layers": size.sites * applied * values,
            "weights, gradients and moments": state + 2 * state // (1 + _moments(training.optimiser)),
        }
    )
    return Forecast(
        program=_TRAINER_PROGRAM + (_CUDA_PROGRAM if cuda else 0),
        held={
            **kept_on_device,
            "index of samples": size.images // ranks * (44 + labels) + 4 * size.classes * (size.val + size.test),
            "messages": size.sites * _A_SITE,
            "samples read ahead": 2 * batch * length * 8,
        },
        passing={
            "a layer as it comes": 4 * values
            + max(_WORK_BYTES, _LAYER_FILE_BYTES[choices.wire.layer] * values, _laying_out(choices, size.image)),
            "folding a basis": 8 * values + _WORK_BYTES
            if custody is Custody.ESCROW and choices.wire.codec in TRANSFORM_CODECS
            else 0,
            "a step and a checkpoint": (0 if cuda else _arithmetic(choices, size)) + _STATE_COPIES * state,
        },
    )


def device_memory(choices: RunChoices, size: RunSize) -> Forecast:
    """Of one rank on a device with a memory of its own."""
    state = _state_bytes(choices, size)
    length = MorphGeometry.of(choices.morph.scheme(), size.image).morphed_elements
    return Forecast(
        program=_CUDA_CONTEXT,
        held={
            "layers": size.sites * _applied_bytes(choices) * layer_values(size.image, choices),
            "weights, gradients and moments": state + 2 * state // (1 + _moments(choices.training.optimiser)),
            "samples": 3 * max(_batch(choices, size), _scored(size)) * length * 4,
        },
        passing={"a step": _arithmetic(choices, size)},
    )


def _building(choices: RunChoices, image: ImageShape) -> int:
    """A layer from its key, and as a file."""
    scheme, values = choices.morph.scheme(), layer_values(image, choices)
    core = 8 * MorphGeometry.of(scheme, image).core_side ** 2
    written = _LAYER_FILE_BYTES[choices.wire.layer] * values
    coded = written + max(written, 3 * 4 * min(values, _ROWS_AT_ONCE * _row_values(choices, image)))
    return max(_drawing(choices) * core, _WORK_BYTES + 4 * values + max(2 * core, coded))


def _drawing(choices: RunChoices) -> int:
    """Copies of a core at a time while it is drawn."""
    return _CORE_COPIES + (2 if choices.morph.scheme().ensemble is Ensemble.UNIFORM else 0)


def _row_values(choices: RunChoices, image: ImageShape) -> int:
    """Of a layer's first axis."""
    shape = expected_weight_shape(choices.morph.scheme(), image, choices.model.filters, choices.model.kernel)
    return math.prod(shape[1:])


def _laying_out(choices: RunChoices, image: ImageShape) -> int:
    """A band of an unrolled layer on the way into the form in which it is applied, beside that."""
    if choices.morph.scheme().layout is not Layout.UNROLLED:
        return 0
    row = choices.model.filters * image.width
    columns = min(row * image.height, row * max(1, _BAND_COLUMNS // row))
    applied = _applied_bytes(choices)
    band = MorphGeometry.of(choices.morph.scheme(), image).morphed_elements * columns
    return band * (11 if applied == _APPLIED_BYTES[Arithmetic.INT8] else 4 + 2 * applied)


def layer_values(image: ImageShape, choices: RunChoices) -> int:
    """Weights of one augmented layer."""
    return math.prod(expected_weight_shape(choices.morph.scheme(), image, choices.model.filters, choices.model.kernel))


def sample_cache_bytes(choices: RunChoices, size: RunSize) -> int:
    """What a rank's cache takes of its disk at most, in bytes: each value of a sample as the codec keeps it; of
    a transform codec two bytes, were no coefficient left out."""
    length = MorphGeometry.of(choices.morph.scheme(), size.image).morphed_elements
    value_bytes = {"f32": 4, "f16": 2, **dict.fromkeys(TRANSFORM_CODECS, 2)}.get(choices.wire.codec, 1)
    return size.images // choices.training.ranks * (length * value_bytes + 96)


def _applied_bytes(choices: RunChoices) -> int:
    """Of one weight of a layer as it is applied."""
    scheme, arithmetic = choices.morph.scheme(), choices.training.first_layer
    if scheme.ensemble is Ensemble.UNIFORM:
        return 4
    if scheme.layout is Layout.TILED and arithmetic is Arithmetic.INT8:
        return _APPLIED_BYTES[Arithmetic.BF16]
    return _APPLIED_BYTES[arithmetic]


def _state_bytes(choices: RunChoices, size: RunSize) -> int:
    """Weights and moments."""
    weights = TRUNKS[choices.model.trunk].weights(choices.model.width, size.classes)
    return 4 * weights * (1 + _moments(choices.training.optimiser))


def _moments(optimiser: OptimiserName) -> int:
    return 2 if optimiser is OptimiserName.ADAMW else 1


def _batch(choices: RunChoices, size: RunSize) -> int:
    return -(-min(choices.training.batch, size.train) // choices.training.ranks)


def _scored(size: RunSize) -> int:
    return min(_SCORED_AT_ONCE, max(size.val, size.test))


def _arithmetic(choices: RunChoices, size: RunSize) -> int:
    """What a step keeps of its batch for the way back and works in, or what answers to a group of samples do."""
    training, image = choices.training, size.image
    value_bytes, beside = (4, 1.15) if training.precision is Precision.F32 else (2, 1.4)
    kept = TRUNKS[choices.model.trunk].kept_values(choices.model.width, image.height, image.width)
    feature = choices.model.filters * image.height * image.width * value_bytes
    copies = 4 + (2 if set(training.augment) - {Augment.MIRROR} else 0) + (1 if training.augment else 0)
    batch = _batch(choices, size)
    step = batch * (int(beside * kept * value_bytes) + copies * feature)
    return max(step, _scored(size) * 5 * feature)


def _judging(size: RunSize, turns: int) -> int:
    """Intervals of the pooled metrics, and of the sites' own in turns."""
    own = 28 * max(_DRAWN_VALUES, _LEAST_DRAWS * (size.val + size.test) // max(1, size.sites))
    return _SCORES_BYTES + _POOLED_DRAWS * 8 * 3 * size.classes**2 + turns * own
