"""Commands that compute nothing do not wait for torch, whose import alone takes a second, nor for what plug-ins use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LIGHT = ["morph", "wire", "data", "plan", "privacy", "rpc", "pki", "meter", "node", "report", "simulate"]
PROGRAM = """
import sys
from mple.cli import main
code = main(sys.argv[1:])
heavy = sorted({"torch", "safetensors.torch", "seal", "comparison.networks", "jinja2"} & set(sys.modules))
print("heavy:", heavy, "code:", code)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["pki", "--help"],
        ["pki", "init", "authority", "--consortium", "test"],
        ["keys", "--help"],
        ["doctor", "--peer", "127.0.0.1:1", "--tls", "absent"],
        ["data", "show", "--kind", "npz", "--path", "absent.npz"],
        ["report", "absent"],
    ],
    ids=" ".join,
)
def test_loads_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], cwd=str(tmp_path), capture_output=True, text=True, check=True
    )
    assert "heavy: [] code: " in ended.stdout


def test_packages_that_only_name_things_do_not_load_torch() -> None:
    program = f"""
import importlib, sys
for name in {LIGHT}:
    importlib.import_module("mple." + name)
    assert "torch" not in sys.modules, name
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
