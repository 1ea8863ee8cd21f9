"""What can't be trained is refused before anything is sent."""

import pytest

from mple.model.settings import ModelSettings, TaskKind
from mple.morph import ImageShape
from mple.plan import MorphSettings, NormalisationSettings, PlanError, RunChoices
from mple.plan.fit import check_any_run, check_images


@pytest.mark.parametrize(
    ("height", "width", "choices", "text"),
    [
        (17, 31, RunChoices(), "images of 17 x 31 pixels; vgg16 takes 28 to 224 a side; set side_px"),
        (256, 256, RunChoices(), "images of 256 x 256 pixels"),
        (512, 512, RunChoices(), "images of 512 x 512 pixels"),
        (28, 27, RunChoices(), "images of 28 x 27 pixels"),
        (32, 32, RunChoices(morph=MorphSettings(preset="paper", kappa=5)), "kappa = 5 does not divide"),
        (32, 32, RunChoices(morph=MorphSettings(preset="mole"), model=ModelSettings(kernel=1)), "morph.border = 1 is"),
        (224, 224, RunChoices(morph=MorphSettings(preset="paper")), "GiB; choose the tiled layout"),
        (
            32,
            32,
            RunChoices(normalisation=NormalisationSettings(mean=(0.5, 0.5), std=(1.0, 1.0))),
            "2 means for 3 channels",
        ),
    ],
)
def test_images_that_a_run_can_not_take_are_refused(height: int, width: int, choices: RunChoices, text: str) -> None:
    with pytest.raises(PlanError, match=text):
        check_images(ImageShape(channels=3, height=height, width=width), choices)


@pytest.mark.parametrize("side_px", [28, 33, 224])
def test_other_images_pass(side_px: int) -> None:
    check_images(ImageShape(channels=3, height=side_px, width=side_px), RunChoices())


def test_more_labels_than_a_run_holds_are_refused() -> None:
    image = ImageShape(channels=1, height=28, width=28)
    check_any_run(image, classes=500, train=500_000, test=0, val=0, task=TaskKind.LABELS)
    check_any_run(image, classes=501, train=500_000, test=0, val=0)
    for classes, train in ((501, 10), (500, 500_001)):
        with pytest.raises(PlanError, match=f"{classes} labels of {train} training images; a run can hold 500 labels"):
            check_any_run(image, classes=classes, train=train, test=0, val=0, task=TaskKind.LABELS)
