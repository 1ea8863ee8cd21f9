"""Generates `mple/v1` and `comparison/v1` from their contracts; `make protos` runs it, and a test compares its output.

Needs the oldest supported grpcio-tools (see `pyproject.toml`): code that it generates runs on every later runtime,
code of a newer one does not run on an older.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[1]
CONTRACTS = {"mple/v1": ROOT / "protos", "comparison/v1": ROOT / "comparison" / "protos"}
"""Where each package's `.proto` files lie, below a root of its own; its modules go to a folder of the same name."""


def generate(out: Path) -> list[Path]:
    """Write the modules of all contracts below `out` and return their paths.

    Args:
        out: Existing folder; modules go to `out/mple/v1` and `out/comparison/v1`, as their imports say.

    Raises:
        ValueError: A contract does not compile; the compiler has said why on stderr.
    """
    well_known = str(files("grpc_tools") / "_proto")
    kinds = [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
    for package, root in CONTRACTS.items():
        contracts = sorted(str(path.relative_to(root)) for path in (root / package).glob("*.proto"))
        if protoc.main(["protoc", f"-I{root}", f"-I{well_known}", *kinds, *contracts]) != 0:
            raise ValueError(f"one of {', '.join(contracts)} does not compile")
    return sorted(path for package in CONTRACTS for path in (out / package).glob("*_pb2*.py*"))


if __name__ == "__main__":
    try:
        for module in generate(ROOT):
            print(module.relative_to(ROOT))
    except ValueError as fault:
        sys.exit(f"{Path(__file__).name}: {fault}")
