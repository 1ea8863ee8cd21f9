"""The machine that a benchmark ran on, in a line; and where the figures that it gave are kept."""

from __future__ import annotations

import compileall
import os
import platform
from pathlib import Path

import torch

RESULTS = Path("results/benchmarks")
"""Where a benchmark writes without `--out`: the recorded figures, which the pages in docs/science show."""


def machine() -> str:
    """The machine in a line."""
    return f"{os.cpu_count()} cores, {_processor()}, torch {torch.__version__}, Python {platform.python_version()}"


def as_installed() -> None:
    """Compile this checkout's modules, as pip does when it installs them. Else each process that a benchmark starts
    compiles them anew where the environment forbids it to keep what it has compiled (PYTHONDONTWRITEBYTECODE)."""
    root = Path(__file__).parents[1]
    for package in ("mple", "coordinator", "compute_node", "provider_node", "comparison"):
        compileall.compile_dir(root / package, quiet=2)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
