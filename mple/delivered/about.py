"""What one must know of a trained network beside its weights: what its answers mean, and what it takes in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from mple.data.limits import MOST_CHANNELS, MOST_SIDE
from mple.disk.json_records import record_from_json, record_to_json
from mple.model.settings import TaskKind
from mple.model.trunks import TRUNKS, VGG16_STAGES, scaled
from mple.plan import RunPlan
from mple.ranges import Between, OneOf, Ranged

_KEY = "mple"
"""Of the metadata entry that holds the record."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkAbout(Ranged):
    """A network that takes uint8 pictures (B, channels, height, width) of levels 0 to 255 and answers logits (B, C)."""

    task: TaskKind
    """Whether the answers are to be read by a softmax over classes, or by a sigmoid of each label."""
    classes: tuple[str, ...]
    """Names in the order of the logits: of classes, or of labels."""
    channels: Annotated[int, Between(1, MOST_CHANNELS)]
    height: Annotated[int, Between(1, MOST_SIDE)]
    width: Annotated[int, Between(1, MOST_SIDE)]
    """Sides of the pictures that it was trained on, in pixels."""
    mean: tuple[float, ...]
    """Of the normalisation, in parts of 255; one for all channels, or one for each."""
    std: tuple[float, ...]
    model_width: float
    """Factor on VGG-16's channel counts."""
    kernel: Annotated[int, OneOf((1, 3, 5, 7))]
    """Side of the first convolution's kernels, in pixels."""
    run_id: str
    plan_sha256: str
    """Hexadecimal."""
    model_sha256: str
    """Hexadecimal digest of the trunk as it was trained: names, shapes and bytes of all weights and statistics."""
    epoch: Annotated[int, Between(1, 10_000)]
    """Training epoch after which it was kept, counted from 1."""

    @property
    def channel_counts(self) -> tuple[tuple[int, ...], ...]:
        """Output channels of the thirteen convolutions, by stage."""
        return tuple(tuple(scaled(full, self.model_width) for full in stage) for stage in VGG16_STAGES)

    @property
    def least_px(self) -> int:
        """Least side of a picture."""
        return TRUNKS["vgg16"].least_px

    def scale_and_shift(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Normalised pixels are pixels * scale_C + shift_C, float32."""
        counts = (self.channels,)
        scale_C = np.broadcast_to(np.array([1 / (255 * std) for std in self.std], np.float32), counts)
        shift = [-mean / std for mean, std in zip(self.mean, self.std, strict=True)]
        return scale_C, np.broadcast_to(np.array(shift, np.float32), counts)

    def to_metadata(self) -> dict[str, str]:
        """As the texts beside the tensors of a file."""
        return {"format": "pt", _KEY: record_to_json(self)}

    @staticmethod
    def is_in(texts: Mapping[str, str]) -> bool:
        """Whether a file with these texts says what it is a network of: one that a run has delivered does."""
        return _KEY in texts

    @classmethod
    def from_metadata(cls, texts: Mapping[str, str] | None, where: str) -> NetworkAbout:
        """Read it back. Raises ValueError: `where`, a file, has none, or a damaged one."""
        if not texts or _KEY not in texts:
            raise ValueError(f"{where} does not say what it is a network of; it was not delivered by a run")
        return record_from_json(cls, texts[_KEY], where)


def about_network(plan: RunPlan, *, model_sha256: str, epoch: int) -> NetworkAbout:
    """Of the network that a plan's run has kept after an epoch."""
    return NetworkAbout(
        task=plan.task.kind,
        classes=plan.classes,
        channels=plan.channels,
        height=plan.height,
        width=plan.width,
        mean=plan.normalisation.mean,
        std=plan.normalisation.std,
        model_width=plan.model.width,
        kernel=plan.model.kernel,
        run_id=plan.run_id,
        plan_sha256=plan.sha256().hex(),
        model_sha256=model_sha256,
        epoch=epoch,
    )
