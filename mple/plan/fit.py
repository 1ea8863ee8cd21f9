"""Whether a run can train on a site's pictures: said when data are looked at, when a site joins and when the plan is
made, before any picture leaves. Pure.
"""

from collections.abc import Sequence

from mple.data import Dataset
from mple.data.limits import MOST_CLASSES, MOST_IMAGES, MOST_LABELS, MOST_LOGITS
from mple.model.settings import TaskKind
from mple.model.trunks import TRUNKS
from mple.morph import ImageShape, MorphGeometry
from mple.plan.memory import layer_values
from mple.plan.run_plan import PlanError
from mple.plan.settings import RunChoices

_MOST_LAYER_BYTES = 16 * 1024**3


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
    needed = 4 * layer_values(image, choices)  # as whoever builds or reads it holds it in memory
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


def _check_sides(image: ImageShape, trunks: Sequence[str]) -> None:
    sides = (image.height, image.width)
    fitting = [name for name in trunks if all(TRUNKS[name].least_px <= side <= TRUNKS[name].most_px for side in sides)]
    if not fitting:
        takes = " or ".join(f"{name} takes {TRUNKS[name].least_px} to {TRUNKS[name].most_px} a side" for name in trunks)
        raise PlanError(
            f"images of {image.height} x {image.width} pixels; {takes}; set side_px in the sites' [data], or save "
            "an archive's pictures in another size"
        )
