"""The orders in which channels and labels cross the wire, and what binds a sealed envelope to its run, its parties and
its kind.

The orders are secrets that all sites share, but where the network begins with weights of a file: the compute node has
that file, and it fits the features and the classes in the file's own order only.
"""

import numpy as np
from numpy.typing import NDArray

from mple.model.settings import WeightsFrom
from mple.morph import draw_order
from mple.plan.run_plan import RunPlan


def channel_order(plan: RunPlan, consortium_secret: bytes) -> NDArray[np.int64]:
    """The order of the stem's output channels: place j holds feature `order[j]`."""
    if plan.model.from_file:
        return np.arange(plan.filters)
    return draw_order(consortium_secret, "channel order", plan.filters)


def label_order(plan: RunPlan, consortium_secret: bytes) -> NDArray[np.int64]:
    """The order of the classes, or labels, on the wire: place j holds class `order[j]`."""
    if plan.model.weights is WeightsFrom.NETWORK:
        return np.arange(len(plan.classes))
    return draw_order(consortium_secret, "label order", len(plan.classes))


def seal_info(run_id: str, sender: str, recipient: str, kind: int) -> bytes:
    """The context of an envelope (HPKE's info): it opens only under the same run, sender, recipient and kind."""
    parts = [b"mple/v1/envelope", run_id.encode(), sender.encode(), recipient.encode(), str(int(kind)).encode()]
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)
