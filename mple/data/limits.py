"""How much a run can hold, as data are looked at and as the coordinator lets a site join."""

MOST_CLASSES = 65_535
MOST_LABELS = 500
"""Of a task of labels: a byte each in every training sample's message."""
MOST_CHANNELS = 64
MOST_SIDE = 4096
"""Pixels."""
MOST_IMAGES = 5_000_000
"""Of one split: the compute node's index takes some 30 bytes for each, whether the image ever comes or not."""
MOST_LOGITS = 250_000_000
"""Images of a split that is scored x classes, 1 GB of scores at the compute node; training images x labels, 250 MB of
its index."""
