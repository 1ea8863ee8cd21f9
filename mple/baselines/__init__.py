"""What the scheme is measured against."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mple.baselines.plain import PlainEpoch, PlainOutcome, PlainSettings, train_plain

__all__ = ["PlainEpoch", "PlainOutcome", "PlainSettings", "train_plain"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Plain training imports torch; the parties of a private inference, whose memory is measured, do without."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.plain"), name)
