"""The layers, read off the import statements: what may import what, and which modules do no I/O."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.levels import LEVELS, OTHERS, PAGE, ROOT, page_with, table

DOING_IO = {"socket", "ssl", "grpc", "threading", "concurrent", "asyncio", "multiprocessing", "subprocess", "time"}
"""What pure code does not import; neither does it import `os`, open a file, or draw from a clock."""
PURE = (
    "mple/printable.py",
    "mple/ranges.py",
    "mple/metrics",
    "mple/morph",
    "mple/wire",
    "mple/plan",
    "mple/privacy",
    "mple/meter/facts.py",
    "mple/meter/paper.py",
    "mple/data/normalise.py",
    "mple/delivered",
    "mple/model/first_layer",
    "mple/model/settings.py",
    "mple/model/trunks.py",
    "comparison/garbled",
    "comparison/lattice/packing.py",
    "comparison/lattice/parameters.py",
    "comparison/lattice/rotations_plan.py",
    "comparison/networks/equalisation.py",
    "comparison/networks/float_network.py",
    "comparison/networks/quantisation.py",
    "comparison/networks/small.py",
    "comparison/expected_bytes.py",
    "comparison/ratios.py",
    "comparison/two_party/contents.py",
    "comparison/two_party/plain_stages.py",
    "comparison/two_party/public_network.py",
    "mple/doctor/findings.py",
    "mple/simulate/chaos_schedule.py",
    "compute_node/feeding/request_window.py",
    "compute_node/training/features.py",
    "provider_node/feeding/scoring.py",
)
"""Packages and modules that do no I/O."""
IMPURE = {"mple/delivered/folder.py", "mple/wire/layer_file.py", "mple/plan/reader.py"}
"""Files of pure packages that read or write files for them."""
PURE_BUT_ERRORS = ("compute_node/feeding/accepted_batch.py", "coordinator/phases.py", "coordinator/site_keys.py")
"""Pure modules that raise catalogue errors, and so import `mple.rpc` for these names only."""
MOST_LINES = 400
FILES = sorted(path for top in ("mple", *OTHERS) for path in (ROOT / top).rglob("*.py") if path.parent.name != "v1")


def name_of(path: Path) -> str:
    """The dotted name of a module of this repository."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports(path: Path) -> frozenset[str]:
    """Full names of all that a file imports, at its top or within; `from a import b` gives a.b."""

    def found() -> Iterator[str]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path} has a relative import"
                yield from (f"{node.module}.{alias.name}" for alias in node.names)

    return frozenset(found())


def tops(path: Path) -> set[str]:
    """First parts of what a file imports."""
    return {name.partition(".")[0] for name in imports(path)}


def level_of(package: str) -> int:
    """Place of a package of mple among the levels."""
    for level, packages in enumerate(LEVELS):
        if package in packages:
            return level
    raise AssertionError(f"mple.{package} has no level; enter it in LEVELS of tests/support/levels.py")


def pure_files() -> list[Path]:
    files = [file for entry in PURE for file in (sorted((ROOT / entry).rglob("*.py")) or [ROOT / entry])]
    return [file for file in files if file.relative_to(ROOT).as_posix() not in IMPURE]


def test_the_rules_see_all_packages() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == {"mple", *OTHERS}
    assert len(FILES) > 60


def test_the_page_on_architecture_shows_the_levels() -> None:
    """`make layers` writes them there."""
    text = PAGE.read_text(encoding="utf-8")
    assert table() in text
    assert page_with(text, "") != text


@pytest.mark.parametrize("top", ["mple", *OTHERS])
def test_no_package_imports_another_beside_mple(top: str) -> None:
    others = set(OTHERS) - {top}
    for path in FILES:
        if name_of(path).partition(".")[0] == top:
            assert not tops(path) & others, name_of(path)


def test_imports_within_mple_point_down() -> None:
    for path in FILES:
        own = name_of(path).split(".")
        if own[0] != "mple" or len(own) == 1:
            continue
        for name in imports(path):
            theirs = name.split(".")
            if theirs[0] == "mple" and len(theirs) > 1 and theirs[1] not in ("__version__", own[1]):
                assert level_of(theirs[1]) <= level_of(own[1]), f"{name_of(path)} imports {name}"


def test_packages_of_one_level_do_not_import_each_other_in_a_circle() -> None:
    """`plan` and `data`, `rpc` and `pki` are of one level; which of two is the lower one must be clear."""
    edges: dict[str, set[str]] = {}
    for path in FILES:
        own = name_of(path).split(".")
        if own[0] == "mple" and len(own) > 1:
            edges.setdefault(own[1], set()).update(
                name.split(".")[1] for name in imports(path) if name.startswith("mple.")
            )
    for package in edges:
        seen: set[str] = set()
        ahead = edges[package] - {package}
        while ahead:
            seen |= ahead
            ahead = set().union(*(edges.get(one, set()) - {one} for one in ahead)) - seen
        assert package not in seen, f"mple.{package} imports itself by way of {sorted(seen)}"


@pytest.mark.parametrize("path", pure_files(), ids=name_of)
def test_pure_modules_do_no_io(path: Path) -> None:
    assert not tops(path) & (DOING_IO | {"os", "sqlite3", "logging"})
    assert not {name for name in imports(path) if name.startswith(("mple.rpc", "mple.pki", "mple.node"))}
    calls = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & {"open", "print", "input"}


@pytest.mark.parametrize("entry", PURE_BUT_ERRORS)
def test_pure_state_takes_only_errors_from_rpc(entry: str) -> None:
    assert not tops(ROOT / entry) & (DOING_IO | {"os", "sqlite3", "logging"})
    from_rpc = {name for name in imports(ROOT / entry) if name.startswith("mple.rpc")}
    assert from_rpc <= {"mple.rpc.ErrorCode", "mple.rpc.MpleError"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_module_opens_with_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_no_file_is_long() -> None:
    tops = ("tests", "benchmarks", "examples", "protos")
    written = [*FILES, *(path for top in tops for path in (ROOT / top).rglob("*.py"))]
    long = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in written}
    assert not {path: lines for path, lines in long.items() if lines > MOST_LINES}


def test_no_module_is_named_for_nothing() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "handler", "handlers"}
    assert not [name_of(path) for path in FILES if path.stem in vague or path.parent.name in vague]


def test_nothing_unpickles() -> None:
    """A peer's bytes, or a file that a peer sent, must never run code. `torch.load` runs none where it takes tensors
    alone."""
    for path in FILES:
        banned = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "torch.save"}
        assert not imports(path) & banned, name_of(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert f"{node.value.id}.{node.attr}" not in banned, name_of(path)
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert ("weights_only", "True") in [(k.arg, ast.unparse(k.value)) for k in node.keywords], name_of(path)
