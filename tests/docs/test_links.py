"""Every link leads somewhere, and every file, test and command that a page names is there."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("docs", "results")
PAGES = sorted([*ROOT.glob("*.md"), *(path for name in FOLDERS for path in (ROOT / name).rglob("*.md"))])
TOPS = ("protos", "mple", "coordinator", "compute_node", "provider_node", "comparison")
NAMED = ("tests", "benchmarks", "examples", "docs", "results")
"""Folders of the repository that a page may name files of."""

LINK = re.compile(r"\]\(([^)\s]+)\)")
FILE = re.compile(rf"(?<![\w/.-])(?:{'|'.join((*TOPS, *NAMED))})/[\w./-]*\w")
BARE_FILE = re.compile(r"`(\w+\.(?:py|proto))\b")
TEST_IN_FILE = re.compile(r"(test_\w+\.py)::(test_\w+)")
TEST = re.compile(r"(?:`|::)(test_\w+_\w+_\w+)`")
MODULE = re.compile(r"python -m (benchmarks\.\w+|tests\.\w+)")
TARGET = re.compile(r"(?:\$ |`)make ([a-z][\w-]*)")
FENCE = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)
AT_A_NODE = ("coordinator/state", "coordinator/coordinator")
"""Begin like folders of the repository, but are a node's own folder, and a party's name."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def anchors_of(path: Path) -> frozenset[str]:
    """What a page's headings are linked by: lower case, no punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text_of(path)), re.MULTILINE)
    return frozenset(re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings)


def fault_of(page: Path, link: str) -> str | None:
    """What is wrong with a link, if anything; links to other hosts are not looked at."""
    place, _, anchor = link.partition("#")
    if re.match(r"[a-z]+:", place):
        return None
    target = (page.parent / place).resolve() if place else page
    if not target.exists():
        return f"{link}: there is no {target}"
    if anchor and anchor not in anchors_of(target):
        return f"{link}: no heading of {name_of(target)} gives that; there are {sorted(anchors_of(target))}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    faults = [fault_of(page, link) for link in LINK.findall(FENCE.sub("", text_of(page)))]
    assert not [fault for fault in faults if fault]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    names = {name for name in FILE.findall(text_of(page)) if not name.startswith(AT_A_NODE)}
    assert not [name for name in sorted(names) if not (ROOT / name).exists()]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_that_a_page_names_without_its_folder_is_there(page: Path) -> None:
    there = {path.name for top in (*TOPS, *NAMED) for path in (ROOT / top).rglob("*.*")}
    assert not sorted(set(BARE_FILE.findall(text_of(page))) - there)


@cache
def names_of_tests(file: str) -> frozenset[str]:
    """Names of the tests in all files of that name, a pattern."""
    texts = [text_of(path) for path in (ROOT / "tests").rglob(file)]
    return frozenset(name for text in texts for name in re.findall(r"def (test_\w+)\(", text))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    within = TEST_IN_FILE.findall(text_of(page))
    assert not [f"{file}::{test}" for file, test in within if test not in names_of_tests(file)]
    assert not sorted(set(TEST.findall(text_of(page))) - names_of_tests("test_*.py"))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_module_and_target_that_a_page_names_is_there(page: Path) -> None:
    modules = {ROOT / name.replace(".", "/") for name in MODULE.findall(text_of(page))}
    assert not [path for path in modules if not (path.with_suffix(".py").is_file() or (path / "__main__.py").is_file())]
    rules = text_of(ROOT / "Makefile")
    missing = {name for name in TARGET.findall(text_of(page)) if not re.search(rf"^{name}:", rules, re.MULTILINE)}
    assert not {name for name in missing if not (name.startswith("bench-") and "bench-%:" in rules)}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_that_shows_a_figure_names_its_command(page: Path) -> None:
    shown = set(re.findall(r"results/benchmarks/(\w+)\.(?:png|json)\)", text_of(page)))
    assert not [name for name in sorted(shown) if f"benchmarks.{name}" not in text_of(page)]


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in LINK.findall(text_of(index))}
    assert not [name_of(page) for page in PAGES if page.is_relative_to(ROOT / "docs") and page not in {index, *linked}]


def test_every_result_is_of_a_command_that_is_there() -> None:
    figures = {path.stem for path in (ROOT / "results" / "benchmarks").iterdir()}
    assert figures <= {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
