"""Commands that compute nothing do not wait for torch, whose import alone takes a second, nor for what plug-ins use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BELOW = ["morph", "wire", "data", "plan", "privacy", "rpc", "pki", "meter", "records", "delivered", "node", "report"]
LIGHT = [*(f"mple.{name}" for name in BELOW), "provider_node", "coordinator"]
PROGRAM = """
import sys
from mple.cli import main
code = main(sys.argv[1:])
unwanted = {"torch", "safetensors.torch", "seal", "comparison.networks", "jinja2", "onnx", "onnxruntime"}
heavy = sorted(unwanted & set(sys.modules))
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
        ["model", "show", "absent"],
    ],
    ids=" ".join,
)
def test_loads_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], cwd=str(tmp_path), capture_output=True, text=True, check=True
    )
    assert "heavy: [] code: " in ended.stdout


@pytest.mark.parametrize("name", ["mple-provider", "mple-coordinator", "mple-compute"])
def test_only_the_compute_node_that_a_test_starts_can_import_torch(name: str, tmp_path: Path) -> None:
    """What runs of real processes show of a hospital's installation rests on it: see `tests/support/hospital`."""
    modules = {"mple-provider": "provider_node", "mple-coordinator": "coordinator", "mple-compute": "compute_node"}
    program = "import importlib.util as found, sys; sys.exit(found.find_spec('torch') is None)"
    for file in (name, f"{modules[name]}.py"):
        (tmp_path / file).write_text(program)
    for arguments in ([name], ["-m", modules[name]]):
        ended = subprocess.run([sys.executable, *arguments], cwd=tmp_path, check=False)
        assert ended.returncode == (0 if name == "mple-compute" else 1)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], ["predict", "--help"], ["sing"]])
def test_the_help_of_a_site_waits_for_the_command_line_alone(arguments: list[str]) -> None:
    program = """
import sys
from provider_node.node import main
code = main(sys.argv[1:])
print("loaded:", sorted({"numpy", "grpc", "cryptography", "cattrs", "mple.plan"} & set(sys.modules)), "code:", code)
"""
    ended = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    assert ended.stdout.endswith(f"loaded: [] code: {2 * (arguments == ['sing'])}\n"), ended.stdout


def test_a_site_keeps_nothing_in_memory_that_it_was_not_asked_for(tmp_path: Path) -> None:
    """What checks the types of a command line, what serves metrics: 9 MB together."""
    program = """
import sys
from provider_node.node import main
code = main(["run", "absent.toml"])
import provider_node.taking_part
print("loaded:", sorted({"pydantic", "prometheus_client", "rich"} & set(sys.modules)), "code:", code)
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ended.stdout == "loaded: [] code: 2\n", ended.stdout
    assert "absent.toml" in ended.stderr


def test_what_a_hospital_runs_never_loads_torch() -> None:
    """Every module of the nodes but the compute node's, and of what they stand on, where importing torch raises."""
    program = f"""
import importlib, pkgutil, sys
sys.modules["torch"] = None
for name in {LIGHT}:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
