"""A site `north` of coloured pictures, random in every value, and the plan that it morphs them by."""

import numpy as np

from mple.data import Dataset, LabelledImages
from mple.plan import MorphSettings, NormalisationSettings, RunPlan, WireSettings
from tests.support.small_plan import CLASSES, small_plan

SIDE_PX = 28


def pictures(count: int, channels: int = 3, seed: int = 5) -> LabelledImages:
    """Their classes in turn."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (count, channels, SIDE_PX, SIDE_PX), dtype=np.uint8)
    return LabelledImages(pixels, np.arange(count) % len(CLASSES))


DATASET = Dataset(name="north", classes=CLASSES, train=pictures(40), test=pictures(6, seed=6))


def plan_with(preset: str, codec: str = "q8", kappa: int | None = None) -> RunPlan:
    """A mean and a deviation of its own for each channel."""
    return small_plan(
        channels=3,
        side_px=SIDE_PX,
        morph=MorphSettings(preset=preset, kappa=kappa),
        wire=WireSettings(codec=codec),
        normalisation=NormalisationSettings(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)),
    )
