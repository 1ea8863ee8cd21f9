"""Generates `mple/v1` from `protos/mple/v1/*.proto`; `make protos` runs it, and a test compares its output.

Needs the oldest supported grpcio-tools (see `pyproject.toml`): code that it generates runs on every later runtime,
code of a newer one does not run on an older.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent


def generate(out: Path) -> list[Path]:
    """Write the modules of all contracts below `out` and return their paths.

    Args:
        out: Existing folder; modules go to `out/mple/v1`, as their imports say.

    Raises:
        ValueError: A contract does not compile; the compiler has said why on stderr.
    """
    contracts = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("mple/v1/*.proto"))
    well_known = str(files("grpc_tools") / "_proto")
    kinds = [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
    if protoc.main(["protoc", f"-I{ROOT}", f"-I{well_known}", *kinds, *contracts]) != 0:
        raise ValueError(f"one of {', '.join(contracts)} does not compile")
    return sorted((out / "mple" / "v1").glob("*_pb2*.py*"))


if __name__ == "__main__":
    try:
        for module in generate(ROOT.parent):
            print(module.relative_to(ROOT.parent))
    except ValueError as fault:
        sys.exit(f"{Path(__file__).name}: {fault}")
