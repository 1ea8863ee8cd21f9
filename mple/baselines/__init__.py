"""What the scheme is measured against."""

from mple.baselines.plain import PlainEpoch, PlainOutcome, PlainSettings, train_plain

__all__ = ["PlainEpoch", "PlainOutcome", "PlainSettings", "train_plain"]
