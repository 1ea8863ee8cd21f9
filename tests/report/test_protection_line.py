"""What a run protects from stands in its summary, its tables and on its page, with the noise that each site added."""

from __future__ import annotations

import dataclasses
import json
from io import StringIO
from pathlib import Path

from rich.console import Console

from mple.plan import PrivacyMode, PrivacySettings
from mple.report import Summary, print_summary
from mple.report.page import page
from mple.report.plan_facts import differing
from tests.support.finished_run import finished_run
from tests.support.small_plan import small_plan

SIZES = {"north": (50, 3), "south": (40, 2)}
PLAIN = small_plan(sizes=SIZES)
NOISY = dataclasses.replace(PLAIN, privacy=PrivacySettings(mode=PrivacyMode.NOISE, budget_bits=5.0))


def printed(summary: Summary) -> str:
    screen = StringIO()
    print_summary(summary, Console(file=screen, width=160))
    return screen.getvalue()


def test_a_run_without_noise_says_who_can_see_its_pictures(tmp_path: Path) -> None:
    summary = finished_run(tmp_path / "run", plan=PLAIN)
    line = str(summary.to_json()["protection"])
    assert line.endswith("recovers every picture.")
    assert f"protection: {line}" in printed(summary)
    assert "recovers every picture." in page(summary)
    assert "noise added" not in printed(summary) + page(summary)


def test_a_run_with_noise_says_how_much_each_site_added(tmp_path: Path) -> None:
    summary = finished_run(tmp_path / "run", plan=NOISY)
    levels = json.loads((tmp_path / "run" / "summary.json").read_text())["privacy"]["sites"]
    assert [(level["site"], level["measured"]) for level in levels] == [("north", 50), ("south", 40)]
    said = ", ".join(f"{level['site']} {level['deviation_px']:.1f}" for level in levels)
    for text in (printed(summary), page(summary)):
        assert f"noise added, deviation in grey levels of 255: {said}" in text
        assert "at most 5 bits of each, its label apart." in text


def test_a_site_whose_folder_is_elsewhere_is_left_out(tmp_path: Path) -> None:
    summary = finished_run(tmp_path / "run", plan=NOISY)
    next((tmp_path / "run" / "nodes" / "north" / "state").glob("noise-*.json")).unlink()
    assert "255: south" in printed(summary)


def test_noise_is_among_the_settings_in_which_runs_differ() -> None:
    assert differing(PLAIN, NOISY) == [
        ("privacy.mode", "none", "noise"),
        ("privacy.shape", "none", "covariance"),
        ("privacy.budget_bits", "none", "5.0"),
    ]
