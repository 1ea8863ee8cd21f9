"""Rows that others' software makes in an environment of its own; what can't be measured is left out with a reason."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from comparison.elsewhere.cheetah import CheetahSettings, measure_cheetah
from comparison.elsewhere.unavailable import Unavailable
from comparison.networks.quantised import QuantisedNetwork
from mple.disk.json_records import write_record

CHEETAH = "cheetah"


@dataclass(frozen=True, kw_only=True, slots=True)
class ElsewhereRow:
    """What a system from elsewhere left: figures, or the reason why there are none."""

    method: str
    skipped: str = ""
    """Why it was left out; empty where it was measured."""
    inferences: int = 0
    first_bytes: float | None = None
    """Of the first inference, keys and base transfers included, as TCP carried them."""
    steady_bytes: float | None = None
    """Of each further one."""
    up_bytes: float | None = None
    """Of the last inference."""
    down_bytes: float | None = None
    first_s: float | None = None
    steady_s: float | None = None
    client_peak_bytes: int = 0
    server_peak_bytes: int = 0
    same_class: float | None = None
    """Share of the pictures that get the quantised network's class."""


def run_cheetah(network: QuantisedNetwork, pictures_NCHW: NDArray[np.uint8], folder: Path) -> ElsewhereRow:
    """Measure CHEETAH on some pictures.

    Args:
        network: The server's.
        pictures_NCHW: The client's; all are inferred.
        folder: A new folder, for what the parties are given and print, and for all figures in `outcome.json`.
    """
    folder.mkdir()
    try:
        found = measure_cheetah(network, pictures_NCHW, CheetahSettings(), folder)
    except (Unavailable, OSError) as fault:
        return ElsewhereRow(method=CHEETAH, skipped=str(fault))
    write_record(folder / "outcome.json", found)
    last = found.inferences[-1]
    return ElsewhereRow(
        method=CHEETAH,
        inferences=len(found.inferences),
        first_bytes=found.first_wire_bytes,
        steady_bytes=found.steady_wire_bytes,
        up_bytes=last.wire_up_bytes,
        down_bytes=last.wire_down_bytes,
        first_s=found.first_seconds,
        steady_s=found.steady_seconds,
        client_peak_bytes=found.client_peak_bytes,
        server_peak_bytes=found.server_peak_bytes,
        same_class=found.same_class_as_quantised,
    )
