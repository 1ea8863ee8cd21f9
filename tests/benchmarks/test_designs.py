"""What the benchmarks run and how they sum it up, where it can be told without running them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from benchmarks.growth import Grown, growth_a_site
from benchmarks.growth import markdown as growth_table
from benchmarks.lines import Carried
from benchmarks.network import Fed, summed_up
from benchmarks.network import Point as NetworkPoint
from benchmarks.network import markdown as network_table
from benchmarks.pictures import png_bytes, predicted_bits
from benchmarks.system import Round, Timed
from benchmarks.system import markdown as system_table
from benchmarks.wire import Point, Row, design
from benchmarks.wire import markdown as wire_table
from mple.morph import PRESETS
from mple.plan import Custody, WireSettings
from tests.support.small_plan import small_plan

ROW = Row(
    point=Point(images=1000),
    raw_pixel_bytes=1_000_000,
    png_bytes=750_000,
    data_bytes=500_000,
    layer_bytes=20_000,
    label_bytes=1_000,
    logits_bytes=4_000,
    setup_bytes=100,
    control_bytes=200,
    framing_bytes=700,
    transport_bytes=4_000,
    tcp_bytes=530_000,
    ratio=0.53,
    png_ratio=0.7067,
    explained_share=0.999,
    bits_a_value=4.0,
    predicted_bits_a_value=None,
    predicted_data_bytes=500_000.0,
    predicted_layer_bytes=20_000.0,
    predicted_bytes=520_000.0,
    prediction_error=0.0096,
    papers_ratio=1.0512,
    setup_up_bytes=333,
    wall_s=1.0,
)
POINT = Grown(
    side_px=32,
    sites=1,
    images=96,
    width=1.0,
    raw_mib=0.3,
    ratio=1.5,
    wall_s=10.0,
    feed_s=0.2,
    train_s=1.0,
    first_layer_ns=100.0,
    compute_rss_mib=400.0,
    compute_pss_mib=300.0,
    coordinator_rss_mib=250.0,
    site_rss_mib=240.0,
    site_rss_most_mib=250.0,
    site_pss_mib=200.0,
    site_threads=12,
)


def test_the_wire_design_changes_one_factor_at_a_time_around_the_default() -> None:
    points = design(2000, 20_000)
    base = points[0]
    assert base == Point(images=2000)
    assert (base.preset, base.codec, base.custody, base.sites) == ("compact", WireSettings().codec, Custody.SITE, 3)
    assert len(set(points)) == len(points)
    assert {point.preset for point in points} == set(PRESETS)
    assert {"f32", "f16", "q8"} <= {point.codec for point in points}
    assert {point.custody for point in points} == set(Custody)
    assert {500, 2000, 20_000} <= {point.images for point in points}
    alone = {(field, getattr(point, field)) for point in points for field in changed(point, base)}
    for field, value in alone:
        assert replace(base, **{field: value}) in points, f"{field} = {value} only together with others"


def test_the_wire_table_has_a_cell_for_each_head_and_marks_what_is_not_predicted() -> None:
    head, rule, row = wire_table([ROW]).splitlines()
    assert head.count("|") == rule.count("|") == row.count("|")
    assert "**53.00 %**" in row and "| 70.67 % |" in row and "4.00 (*)" in row and "105.12%" in row


def test_growth_with_each_site_is_the_slope_of_a_line() -> None:
    points = [replace(POINT, sites=sites, compute_rss_mib=400.0 + 7 * sites) for sites in (1, 2, 4, 8)]
    assert growth_a_site(points) == pytest.approx(7.0)
    assert growth_a_site(points[:1]) is None
    assert growth_a_site(()) is None
    assert "grows by 7.0 MiB with each site" in growth_table({"sites": points})


def test_system_ratios_are_taken_round_by_round() -> None:
    """The machine may slow down between rounds; the median is of ratios, not a ratio of medians."""
    times = [(10.0, 11.0), (20.0, 21.0), (30.0, 36.0)]
    rounds = [
        Round(
            load_before=0.0,
            spinning=Timed(wall_s=a, train_s=a, epochs_s=[a]),
            sleeping=Timed(wall_s=a + 1, train_s=a + 1, epochs_s=[a + 1]),
            whole=Timed(wall_s=2 * b, train_s=b, epochs_s=[b], first_layer_s=0.1 * b, idle_share=0.01, uses={}),
        )
        for a, b in times
    ]
    assert [one.train_ratio for one in rounds] == pytest.approx([1.1, 1.05, 1.2])
    text = system_table(rounds)
    assert "| training | 20.0 | 21.0 | **1.100** (1.050 to 1.200) |" in text
    assert "idle 1.00%, first layer 10.0% of training" in text


def test_png_is_of_each_picture_by_itself() -> None:
    flat = np.zeros((2, 3, 32, 32), np.uint8)
    noise = np.random.Generator(np.random.PCG64(1)).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
    assert png_bytes(flat) == 2 * png_bytes(flat[:1]) < 300
    assert png_bytes(noise) > noise.size


def test_bits_are_predicted_where_there_is_something_to_predict() -> None:
    pixels = np.array(Image.linear_gradient("L").resize((8, 8)), np.uint8)[None, None]
    assert predicted_bits(small_plan(wire=WireSettings(codec="f16")), pixels) == 16
    bits = predicted_bits(small_plan(wire=WireSettings(codec="q8")), pixels)
    assert bits is not None and 4 < bits < 8


def changed(point: Point, base: Point) -> list[str]:
    fields = ("preset", "codec", "custody", "sites", "images")
    return [field for field in fields if getattr(point, field) != getattr(base, field)]


def test_a_line_is_judged_by_the_site_that_took_longest() -> None:
    point = NetworkPoint(preset="compact", codec="q6", mbit_s=10, latency_ms=5, images=1000)
    quick = Fed(setup_s=1.0, feed_s=2.0, framed_bytes=1_900_000, samples=1000)
    slow = Fed(setup_s=1.5, feed_s=4.0, framed_bytes=2_000_000, samples=1000)
    one = Carried(up_bytes=2_400_000, down_bytes=100_000, dropped=1, resent=2)
    row = summed_up(point, {"north": quick, "east": slow}, {"north": one, "east": one}, ledger_bytes=4_000_000)
    assert (row.all_s, row.asked_for_s) == (5.5, 1.5 + 40.0)
    assert row.goodput_share == 2_000_000 * 8 / 4.0 / 10e6  # 0.4
    assert (row.up_bytes, row.down_bytes, row.dropped, row.resent) == (2_400_000, 100_000, 2, 4)
    cells = [cell.strip() for cell in network_table([row]).splitlines()[-1].split("|")]
    assert cells[5:9] == ["1.5", "4.0", "40%", "**41.5 s**"]
    assert cells[12] == "1.250"
