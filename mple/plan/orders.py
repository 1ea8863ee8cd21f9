"""Secrets that all sites share, and what binds a sealed envelope to its run, its parties and its kind."""

import numpy as np
from numpy.typing import NDArray

from mple.morph import draw_order


def channel_order(consortium_secret: bytes, filters: int) -> NDArray[np.int64]:
    """The order of the stem's output channels: place j holds feature `order[j]`."""
    return draw_order(consortium_secret, "channel order", filters)


def label_order(consortium_secret: bytes, classes: int) -> NDArray[np.int64]:
    """The order of the classes on the wire: place j holds class `order[j]`."""
    return draw_order(consortium_secret, "label order", classes)


def seal_info(run_id: str, sender: str, recipient: str, kind: int) -> bytes:
    """The context of an envelope (HPKE's info): it opens only under the same run, sender, recipient and kind."""
    parts = [b"mple/v1/envelope", run_id.encode(), sender.encode(), recipient.encode(), str(int(kind)).encode()]
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)
