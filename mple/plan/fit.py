"""Whether a run can train on a site's pictures, and a machine hold it: said when data are looked at, when a site joins
and when a plan arrives, before any picture leaves. Pure but for the question how much memory there is.
"""

import math
from collections.abc import Sequence

from mple.data import Dataset
from mple.data.limits import MOST_CLASSES, MOST_IMAGES, MOST_LABELS, MOST_LOGITS
from mple.machine import require_memory
from mple.model.settings import OptimiserName, Precision, TaskKind
from mple.model.trunks import TRUNKS
from mple.morph import Ensemble, ImageShape, MorphGeometry, expected_weight_shape
from mple.morph.arithmetic import Arithmetic
from mple.plan.run_plan import PlanError, RunPlan
from mple.plan.settings import DeliverTo, RunChoices

_MOST_LAYER_BYTES = 16 * 1024**3
_DELIVERED_COPIES = 7
"""Of all weights in memory at a time: as they came and in order, as two files, as products take them."""
_LAYER_BYTES = {Arithmetic.F32: 4, Arithmetic.BF16: 2, Arithmetic.INT8: 1}


def check_images(image: ImageShape, choices: RunChoices) -> None:
    """Whether a run can be planned for images of this shape.

    Raises PlanError: the trunk takes no such sides, the layout no such images, a normalisation is for other channels,
    or layers would be beyond any machine; the text names the setting.
    """
    _check_sides(image, [choices.model.trunk])
    scheme, model, means = choices.morph.scheme(), choices.model, choices.normalisation.mean
    if scheme.border > model.kernel // 2:
        raise PlanError(f"morph.border = {scheme.border} is wider than half of model.kernel = {model.kernel}; lower it")
    if len(means) not in (1, image.channels):
        raise PlanError(
            f"normalisation has {len(means)} means for {image.channels} channels; give one mean and std for all, or "
            "set channels in the sites' [data]"
        )
    try:
        MorphGeometry.of(scheme, image)
    except ValueError as fault:
        raise PlanError(str(fault)) from None
    needed = _layer_values(image, choices) * 4  # as whoever builds or reads it holds it in memory
    if needed > _MOST_LAYER_BYTES:
        raise PlanError(
            f'each layer would have {needed / 1024**3:.0f} GiB; choose the tiled layout (morph.preset = "compact")'
        )


def check_task(task: TaskKind, choices: RunChoices) -> None:
    """Whether data for a task are those that a run is for. Raises PlanError: they are not."""
    if task is not choices.task.kind:
        raise PlanError(
            f'the data are for a task of {task}, the run has task.kind = "{choices.task.kind}"; set task.kind = '
            f'"{task}", or give other data'
        )


def check_any_run(
    image: ImageShape, *, classes: int, train: int, test: int, val: int, task: TaskKind = TaskKind.CLASSES
) -> None:
    """Whether some run may take a site's images: all that it can say before it knows its run.

    Raises PlanError: no trunk takes such sides, or there are more classes or images than a run can hold; the text names
    the setting.
    """
    _check_sides(image, list(TRUNKS))
    if not 2 <= classes <= MOST_CLASSES:
        raise PlanError(f"{classes} classes; a run can hold 2 to {MOST_CLASSES}")
    if max(train, test, val) > MOST_IMAGES:
        raise PlanError(
            f"{train} training, {val} validation and {test} test images; a run can hold {MOST_IMAGES} of a split: set "
            "most_train, most_val and most_test"
        )
    if task is TaskKind.LABELS and (classes > MOST_LABELS or train * classes > MOST_LOGITS):
        raise PlanError(
            f"{classes} labels of {train} training images; a run can hold {MOST_LABELS} labels, {MOST_LOGITS} of all "
            "training images: set most_train, or name fewer `classes`"
        )
    for split, images in (("test", test), ("val", val)):
        if images * classes > MOST_LOGITS:
            raise PlanError(
                f"{images} {split} images of {classes} classes have {images * classes} scores; a run can hold "
                f"{MOST_LOGITS}: set most_{split}"
            )


def check_dataset(dataset: Dataset) -> None:
    """As `check_any_run`, for pictures that were read."""
    train, test, val = len(dataset.train), len(dataset.test), len(dataset.val)
    check_any_run(dataset.train.shape, classes=len(dataset.classes), train=train, test=test, val=val, task=dataset.task)


def check_coordinator_memory(image: ImageShape, choices: RunChoices) -> None:
    """Whether this machine holds a layer while it is reviewed, or built in escrow.

    Raises MemoryShortError: it has less.
    """
    require_memory(
        _layer_values(image, choices) * 4,
        "a site's layer at the coordinator",
        'choose the tiled layout (morph.preset = "compact"), or lower model.width',
    )


def check_site_memory(plan: RunPlan, dataset: Dataset) -> None:
    """Whether this machine holds what a site needs for a plan: its pictures, and a layer while it is built, or the
    network while it is put together.

    Raises MemoryShortError: it has less.
    """
    trunk, delivered = TRUNKS[plan.model.trunk], plan.delivery.to is DeliverTo.SITES
    network = _DELIVERED_COPIES * 4 * trunk.weights(plan.model.width, len(plan.classes)) if delivered else 0
    pixels = sum(images.held_bytes for images in (dataset.train, dataset.test, dataset.val))
    require_memory(
        pixels + max(_layer_values(plan.image, plan) * 4, network),
        "this site's pictures and the plan's layer or network",
        "take fewer pictures (most_train), or have the run choose the tiled layout (morph.preset)",
    )


def check_compute_memory(plan: RunPlan) -> None:
    """Whether this machine holds what training by a plan takes at least: all sites' layers, the network, one batch.

    Raises MemoryShortError: it has less.
    """
    require_memory(
        compute_bytes(plan),
        f"{len(plan.sites)} sites' layers, the network and a batch of {plan.training.batch}",
        "lower training.batch, side_px or model.width, or choose the tiled layout (morph.preset)",
    )


def compute_bytes(plan: RunPlan) -> int:
    """Memory that training by a plan takes at least, in bytes: layers as they are applied, one of them as it comes,
    weights with gradient and moments, and what a step keeps of its batch for the way back."""
    image, trunk = plan.image, TRUNKS[plan.model.trunk]
    exact = plan.morph.scheme().ensemble is Ensemble.UNIFORM
    layer = _layer_values(image, plan)
    layers = layer * len(plan.sites) * (4 if exact else _LAYER_BYTES[plan.training.first_layer])
    weights = trunk.weights(plan.model.width, len(plan.classes))
    kept = trunk.kept_values(plan.model.width, image.height, image.width)
    value_bytes = 4 if plan.training.precision is Precision.F32 else 2
    samples = min(plan.training.batch, sum(site.train_images for site in plan.sites))
    moments = 2 if plan.training.optimiser is OptimiserName.ADAMW else 1
    return layers + 4 * layer + (2 + moments) * 4 * weights + samples * kept * value_bytes


def _check_sides(image: ImageShape, trunks: Sequence[str]) -> None:
    sides = (image.height, image.width)
    fitting = [name for name in trunks if all(TRUNKS[name].least_px <= side <= TRUNKS[name].most_px for side in sides)]
    if not fitting:
        takes = " or ".join(f"{name} takes {TRUNKS[name].least_px} to {TRUNKS[name].most_px} a side" for name in trunks)
        raise PlanError(
            f"images of {image.height} x {image.width} pixels; {takes}; set side_px in the sites' [data], or save "
            "an archive's pictures in another size"
        )


def _layer_values(image: ImageShape, choices: RunChoices) -> int:
    return math.prod(expected_weight_shape(choices.morph.scheme(), image, choices.model.filters, choices.model.kernel))
