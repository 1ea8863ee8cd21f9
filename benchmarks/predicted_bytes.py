"""How many bytes a run should take, from its plan alone: the count that measured bytes are held against.

Layers, labels and logits can be counted exactly; what codes take says the codec, from the root mean square of the
blocks, which an orthogonal core keeps, so that it can be read off the plain pictures. The rest (requests, fields of
messages, exponents and classes of blocks) is small and stays out of the prediction.
"""

from __future__ import annotations

from dataclasses import dataclass

from mple.morph import expected_weight_shape
from mple.plan import Custody, RunPlan
from mple.wire.layer_dtype import weight_bytes

_LOGIT_BYTES = 4
_LABEL_BYTES = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictedBytes:
    """Of a run, over all sites, both directions."""

    data: float
    """Codes of all samples, each sent once."""
    layer: float
    """Layers that sites upload, without the file's header."""
    label: float
    logits: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.data + self.layer + self.label + self.logits


def predict_bytes(plan: RunPlan, bits_a_value: float) -> PredictedBytes:
    """Bytes of a run in which every sample crosses once.

    Args:
        plan: The run's.
        bits_a_value: What a morphed value takes under the plan's codec.
    """
    train, test = (sum(getattr(site, f"{split}_images") for site in plan.sites) for split in ("train", "test"))
    shape = expected_weight_shape(plan.morph.scheme(), plan.image, plan.filters, plan.model.kernel)
    uploads = 0 if plan.custody is Custody.ESCROW else len(plan.sites)
    return PredictedBytes(
        data=(train + test) * plan.geometry.morphed_elements * bits_a_value / 8,
        layer=float(uploads * weight_bytes(shape, plan.layer_dtype)),
        label=float(_LABEL_BYTES * train),
        logits=float(_LOGIT_BYTES * test * len(plan.classes) * plan.training.epochs),
    )
