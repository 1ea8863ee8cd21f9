"""What a page says, against what was put into the run's files."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest
from markupsafe import escape
from PIL import Image

from mple.meter import MessageFacts, MessageKind
from mple.report import Summary, read_summary
from mple.report.charts import history_of, loss_chart, score_chart
from mple.report.page import page, write_page
from mple.report.sample_pictures import sample_pictures
from mple.report.traffic import methods, size_histogram, traffic
from mple.report.verdict import verdict
from mple.report.waterfall import StepKind, waterfalls
from tests.support.finished_run import EPOCHS, STEPS, finished_run, pictures_of
from tests.support.ledger_entries import SENT, book, entry
from tests.support.small_plan import small_plan

MESSAGES = [77, 25, 30_005, 45, 255, 135, 95, 23]
"""Framed sizes that each site of the made-up run has sent and received."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    return finished_run(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    return finished_run(tmp_path_factory.mktemp("report") / "faulty", absent=True)


def ledger(summary: Summary) -> Path:
    return summary.folder.ledger


def test_a_waterfall_ends_at_all_that_crossed(run: Summary) -> None:
    whole, sites = waterfalls(ledger(run), run.overhead)
    assert [site.name for site in sites] == ["north", "south"]
    for fall in (whole, *sites):
        raw, *parts, total = fall.steps
        assert raw.size_bytes == fall.raw_pixel_bytes == fall.images * 64
        assert sum(part.size_bytes for part in parts) == total.size_bytes == fall.total_bytes
        before = 0.0
        for part in parts:
            assert part.start_percent == pytest.approx(before)
            before += part.width_percent
        assert before == pytest.approx(total.width_percent)
    counted = sum(
        step.size_bytes for step in sites[0].steps if step.kind not in (StepKind.RAW, StepKind.TOTAL, StepKind.COMPUTED)
    )
    assert counted == run.overhead.sites[0].total_bytes == sum(MESSAGES)
    computed = [step.size_bytes for step in sites[0].steps if step.kind is StepKind.COMPUTED]
    assert computed == [9 * 9, 9 * 22]  # eight messages, one of them in two frames and records


def test_less_than_the_pixels_leaves_the_axis_to_the_pixels(tmp_path: Path) -> None:
    plan = small_plan(sizes={"north": (600, 400)})
    summary = finished_run(tmp_path / "run", plan=plan)
    whole, _ = waterfalls(ledger(summary), summary.overhead)
    assert whole.raw_percent == 100
    assert whole.total_percent == pytest.approx(100 * whole.ratio)
    assert whole.ratio < 1
    words = verdict(summary, whole).replace("\N{NO-BREAK SPACE}", " ")
    assert re.fullmatch(
        r"Everything that crossed the site's link, TLS as computed included: −5\d\.\d % against the raw pixels' bytes; "
        r"test accuracy 0\.7500; ledgers balanced",
        words,
    )
    assert f"{100 * (1 - whole.ratio):.1f} %" in words


def test_lanes_hold_every_byte_at_its_time(run: Summary) -> None:
    whole, early = traffic(ledger(run))
    assert sum(lane.total_bytes for lane in whole.lanes) == 2 * sum(MESSAGES)
    assert sum(lane.messages for lane in whole.lanes) == 2 * len(MESSAGES)
    logits = next(lane for lane in whole.lanes if lane.name == "logits")
    assert not logits.sent
    assert logits.first_s == logits.last_s == 30
    assert [round(bar.start) for bar in logits.bars] == [75 - 1]  # of a run of 40 seconds in 120 bars
    assert [(phase, since) for phase, since, _ in whole.phases] == [("setup", 1), ("training", 2), ("finished", 40)]
    assert early.title.startswith("the first 1.0")
    lanes = [(lane.name, lane.sent, lane.total_bytes) for lane in early.lanes]
    assert lanes == [("augmented layers", True, 60_010), ("set-up", True, 154), ("set-up", False, 50)]


def test_sizes_and_methods_count_every_message(run: Summary) -> None:
    sizes = size_histogram(ledger(run))
    assert sum(sum(one.messages) for one in sizes.classes) == 2 * len(MESSAGES)
    assert sum(sum(one.total_bytes) for one in sizes.classes) == 2 * sum(MESSAGES)
    layer = next(one for one in sizes.classes if one.low_bytes == 16_384)
    assert (layer.messages, layer.total_bytes) == ((2, 0), (60_010, 0))
    rows = {row.method: row for row in methods(ledger(run))}
    assert list(rows) == ["UploadLayer", "Feed", "Join", "Report"]
    feed = rows["Feed"]
    assert (feed.role, feed.calls, feed.sent_messages, feed.received_messages) == ("compute", 6, 4, 4)
    assert (feed.sent_bytes, feed.received_bytes, feed.largest_bytes) == (2 * (255 + 135), 2 * (45 + 95), 255)


def test_curves_pass_through_the_metrics(run: Summary) -> None:
    history = history_of(run.metrics)
    assert len(history.losses) == EPOCHS * STEPS
    assert history.losses[-1] == pytest.approx((EPOCHS, 2 / 3 - 0.15))
    assert history.idle_shares == pytest.approx((0.01, 0.02, 0.03))
    chart = score_chart("accuracy", [("", history)])
    assert chart is not None
    assert [marker.text for marker in chart.lines[0].markers] == [
        "epoch 1: 0.2500",
        "epoch 2: 0.5000",
        "epoch 3: 0.7500",
    ]
    assert [(marker.x, marker.y) for marker in chart.lines[0].markers] == [(33.333, 75), (66.667, 50), (100, 25)]
    both = loss_chart([("one", history), ("other", history)])
    assert both is not None
    assert [(line.name, line.style) for line in both.lines] == [("one", "first"), ("other", "second")]


def test_a_long_curve_is_thinned_and_says_so(run: Summary) -> None:
    history = history_of(run.metrics)
    long = dataclasses.replace(history, losses=tuple((3 * step / 5000, 1.0) for step in range(1, 5001)))
    chart = loss_chart([("", long)])
    assert chart is not None
    assert chart.lines[0].name == "steps, averaged for drawing"
    assert chart.lines[0].path.count("L") < 300


def test_pictures_are_the_sites_own_and_never_in_both_forms(run: Summary) -> None:
    first, second = sample_pictures(run.folder, run.plan)
    assert (first.site, second.site) == ("north", "south")
    assert len(first.seen) == len(first.travelling) == 2  # of five
    shown = Image.open(io.BytesIO(base64.b64decode(first.seen[1].partition(",")[2])))
    assert np.array_equal(np.asarray(shown), pictures_of(run.plan, "north").pixels_NCHW[1, 0])


def test_a_damaged_file_of_pictures_is_left_out(tmp_path: Path) -> None:
    summary = finished_run(tmp_path / "run")
    kept = next((tmp_path / "run").glob("nodes/north/state/pictures-*.npz"))
    kept.write_bytes(kept.read_bytes()[:-40])
    assert [one.site for one in sample_pictures(summary.folder, summary.plan)] == ["south"]
    assert 'alt="picture 1 of south' in page(summary)


def test_the_page_tells_of_absences_and_repeats(run: Summary, faulty: Summary) -> None:
    assert "No sample was sent more than once." in page(run)
    assert "Every epoch had all samples and all scores." in page(run)
    text = page(faulty)
    assert "Sent once more after broken links: 10 samples" in text
    assert "south: 0-3" in text


def test_the_page_names_hashes_and_versions(run: Summary) -> None:
    text = page(run)
    for digest in (run.plan.sha256().hex(), run.outcome.model_sha256, run.plan.stem_digest):
        assert digest in text
    for site in run.plan.sites:
        assert site.key_fingerprint in text
    assert escape(run.plan.to_json().decode()) in text
    assert "2.13" in text


def test_pictures_can_be_left_out(run: Summary, tmp_path: Path) -> None:
    out = write_page(run, tmp_path / "bare.html", pictures=False)
    assert out == tmp_path / "bare.html"
    assert "data:image" not in out.read_text(encoding="utf-8")
    assert "data:image" in page(run)


def test_what_other_parties_name_is_escaped(tmp_path: Path) -> None:
    hostile = '<script>alert("x")</script>'
    plan = dataclasses.replace(small_plan(), classes=("cyst", hostile, "<img src=x>"))
    text = page(finished_run(tmp_path / "run", plan=plan))
    assert "<script" not in text
    assert "<img src=x" not in text
    assert "&lt;script&gt;" in text


def test_a_page_holds_no_address_that_a_browser_would_load(run: Summary) -> None:
    text = page(run)
    assert re.findall(r'(?:src|href)="(?!#|data:)', text) == []
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []


def test_the_page_is_the_same_when_it_is_made_again(run: Summary) -> None:
    assert page(read_summary(run.folder.path)) == page(run)


def test_a_kind_that_another_package_measures_has_its_lane_under_its_own_name(tmp_path: Path) -> None:
    ours = entry(SENT, "a", facts=MessageFacts(MessageKind.DATA, 90))
    theirs = entry(SENT, "a", 1, facts=MessageFacts("gradient", 80))
    (whole,) = traffic(book(tmp_path, "site/north", [ours, theirs]))
    assert {lane.name for lane in whole.lanes} == {"training pictures", "gradient"}
