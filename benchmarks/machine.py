"""The machine that a benchmark ran on, in a line; and where the figures that it gave are kept."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

RESULTS = Path("results/benchmarks")
"""Where a benchmark writes without `--out`: the recorded figures, which the pages in docs/science show."""


def machine() -> str:
    """The machine in a line."""
    return f"{os.cpu_count()} cores, {_processor()}, torch {torch.__version__}, Python {platform.python_version()}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
