"""What is shipped beside the code: types for every package, and the files about the project."""

from __future__ import annotations

import tomllib
from pathlib import Path

import mple

ROOT = Path(__file__).resolve().parents[2]


def test_every_shipped_package_says_that_it_has_types() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert set(packages) >= {"mple", "coordinator", "compute_node", "provider_node", "comparison"}
    assert not [name for name in packages if not (ROOT / name / "py.typed").is_file()]


def test_citation_and_changelog_are_of_this_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {mple.__version__}\n" in citation
    assert f"\n## [{mple.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
