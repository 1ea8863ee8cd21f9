"""Rows that others' software makes, in an environment of its own: started as a command, read back from its JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MODULES = {"cheetah": "comparison.elsewhere.cheetah"}
_TOLD_CHARACTERS = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class ElsewhereRow:
    """What a system from elsewhere left: figures, or the reason why there are none."""

    method: str
    skipped: str
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


def run_elsewhere(method: str, network: Path, out: Path, inferences: int) -> ElsewhereRow:
    """Measure a system from elsewhere on a network.

    Args:
        method: Its name.
        network: The quantised network's file.
        out: Where its results go.
        inferences: Pictures.
    """
    command = [
        *(sys.executable, "-m", _MODULES[method], "--network", str(network)),
        *("--out", str(out), "--inferences", str(inferences)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if not out.exists():
        last = (done.stderr.strip() or done.stdout.strip())[-_TOLD_CHARACTERS:]
        return ElsewhereRow(method=method, skipped=f"ended with code {done.returncode}: {last}")
    return read_elsewhere(method, json.loads(out.read_bytes()))


def read_elsewhere(method: str, raw: dict[str, Any]) -> ElsewhereRow:
    """The row in what a system's measuring has written."""
    if raw.get("state") != "measured":
        return ElsewhereRow(method=method, skipped=f"{raw.get('reason', 'no reason')}: {raw.get('detail', '')}")
    last = raw["inferences"][-1]
    return ElsewhereRow(
        method=method,
        skipped="",
        inferences=len(raw["inferences"]),
        first_bytes=raw["first_wire_bytes"],
        steady_bytes=raw["steady_wire_bytes"],
        up_bytes=last["wire_up_bytes"],
        down_bytes=last["wire_down_bytes"],
        first_s=raw["first_seconds"],
        steady_s=raw["steady_seconds"],
        client_peak_bytes=raw["client_peak_bytes"],
        server_peak_bytes=raw["server_peak_bytes"],
        same_class=raw["same_class_as_quantised"],
    )
