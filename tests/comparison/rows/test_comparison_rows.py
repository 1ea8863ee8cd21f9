"""A whole comparison on a small network, and what becomes of rows that are wrong or left out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from comparison.compare import ROWS, Comparison, Pictures, _required, compare
from comparison.elsewhere_row import ElsewhereRow
from comparison.learned import LEARNED
from comparison.morphed_network import in_order, secret_order
from comparison.networks import small_network
from comparison.page import charts, page
from comparison.published import MIB, PAPERS_DATA_RATIO, PUBLISHED
from comparison.tables import markdown, tables
from comparison.two_party.contents import Phase
from comparison.two_party.session import Method
from comparison.two_processes import CLIENT, SERVER, ComparisonError, PartyFolders

OURS = [row for row in ROWS if row != "cheetah"]
INFERENCES = 2


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    pixels_NCHW = np.random.default_rng(3).integers(0, 256, (40, 3, 8, 8)).astype(np.uint8)
    labels_N = small_network().run(pixels_NCHW).argmax(1)
    return Pictures(pixels_NCHW=pixels_NCHW, labels_N=labels_N, name="random pictures")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def comparison(pictures: Pictures, out: Path) -> Comparison:
    """Every method of ours as two real processes over mutual TLS."""
    return compare(small_network(), pictures, out, rows=OURS, inferences=INFERENCES)


@pytest.mark.parametrize("method", [Method.GAZELLE, Method.MINIONN])
def test_logits_are_those_of_the_network_to_the_last_bit(
    method: Method, comparison: Comparison, out: Path, pictures: Pictures
) -> None:
    run = PartyFolders(out / method)
    theirs, ours = run.outcome(CLIENT), run.outcome(SERVER)
    assert np.array_equal(theirs.logits_NK, small_network().run(pictures.pixels_NCHW[:INFERENCES]))
    phases = [(Phase.SETUP, 0), (Phase.OFFLINE, 1), (Phase.ONLINE, 1), (Phase.OFFLINE, 2), (Phase.ONLINE, 2)]
    for outcome in (theirs, ours):
        assert [(lap.phase, lap.inference) for lap in outcome.laps] == phases
        assert 2**24 < outcome.peak_memory_bytes < 2**31
    assert not list(run.path.glob("*/state/spool")), "garbled tables are left behind"


def test_neither_process_has_the_others_secrets(comparison: Comparison, out: Path) -> None:
    """The client's folder has no weights and the server's no picture, and each has its own certificate and ledgers."""
    run = PartyFolders(out / Method.MINIONN)
    names = {party: {path.name for path in run.party(party).rglob("*") if path.is_file()} for party in (CLIENT, SERVER)}
    assert "network.safetensors" in names[SERVER] - names[CLIENT]
    assert "pictures.npy" in names[CLIENT] - names[SERVER]
    assert {"node.key", "ledger.sqlite", "outcome.json", "log.jsonl"} <= names[CLIENT] & names[SERVER]
    assert run.outcome(SERVER).logits_NK == ()


def test_protocols_are_exact_and_morphing_nearly(comparison: Comparison) -> None:
    by_method = {row.method: row for row in comparison.rows}
    assert list(by_method) == list(Method)
    for method in (Method.PLAIN, Method.GAZELLE, Method.MINIONN):
        assert by_method[method].logits_equal
    assert comparison.accuracy == 1.0
    for method in (Method.COMPACT, Method.PAPER):
        accuracy = by_method[method].accuracy
        assert accuracy is not None and 0.8 < accuracy <= 1


def test_measured_bytes_are_those_on_paper(comparison: Comparison) -> None:
    for row in comparison.rows:
        for figures in (row.setup, row.offline, row.online):
            if figures.total_bytes > 4096:
                assert figures.off_count is not None
                assert abs(figures.off_count) < 0.02, row.method


def test_what_is_split_adds_up(comparison: Comparison) -> None:
    for row in comparison.rows:
        whole = sum(traffic.framed_bytes for traffic in row.traffic)
        assert whole == pytest.approx(row.amortised_bytes * INFERENCES)
        assert row.amortised_s > 0
        assert row.messages == sum(traffic.messages for traffic in row.traffic)


def test_protocols_cost_more_and_say_what_for(comparison: Comparison) -> None:
    by_method = {row.method: row for row in comparison.rows}
    assert by_method[Method.GAZELLE].amortised_bytes > 1000 * by_method[Method.PLAIN].online.total_bytes
    assert by_method[Method.MINIONN].online.total_bytes < by_method[Method.GAZELLE].online.total_bytes
    text = markdown(comparison)
    for words in ("neither picture nor features nor logits", "as quoted, not verified", "421,000", "| 940 | 296 |"):
        assert words in text


def test_figures_can_be_read_back(comparison: Comparison, tmp_path: Path) -> None:
    comparison.write(tmp_path / "c.json")
    told = json.loads((tmp_path / "c.json").read_bytes())
    assert [row["method"] for row in told["rows"]] == OURS
    assert told["rows"][0]["amortised_bytes"] == comparison.rows[0].amortised_bytes


def test_the_page_draws_every_method_and_has_every_table(comparison: Comparison) -> None:
    for chart in charts(comparison):
        assert [row.name for row in chart.rows] == [LEARNED[row.method].title for row in comparison.rows]
        assert chart.ticks[0].percent == 0 and 2 <= len(chart.ticks) <= 6
        for drawn in chart.rows:
            assert all(0 <= bar.percent <= 100 for bar in drawn.bars)
            assert any(bar.percent > 0 for bar in drawn.bars), drawn.name
    text = page(comparison)
    assert "default-src 'none'" in text and "<script" not in text
    for table in tables(comparison):
        assert f"{table.title}</h2>" in text
    assert text.count('role="img"') == 2 * len(comparison.rows)


def test_wrong_logits_fail_the_comparison(comparison: Comparison) -> None:
    row = comparison.rows[-1]
    with pytest.raises(ComparisonError, match=r"MiniONN: logits differ .* by up to 3"):
        _required(replace(row, logits_equal=False, largest_logit_error=3))


def test_bytes_that_were_not_counted_fail_the_comparison(comparison: Comparison) -> None:
    row = comparison.rows[-1]
    offline = replace(row.offline, up_bytes=row.offline.up_bytes * 1.05)
    with pytest.raises(ComparisonError, match=r"MiniONN: offline took .* bytes, counted were"):
        _required(replace(row, offline=offline))


def test_a_network_in_secret_order_gives_the_same_logits(pictures: Pictures) -> None:
    network = small_network()
    first, *_ = network.stages
    order = secret_order(len(first.bias_O))
    permuted = in_order(network, order)
    stem = replace(permuted.stages[0], weights_OIpp=np.ascontiguousarray(first.weights_OIpp[order]))
    together = replace(permuted, stages=(stem, *permuted.stages[1:]))
    assert np.array_equal(together.run(pictures.pixels_NCHW), network.run(pictures.pixels_NCHW))


@pytest.mark.parametrize(
    ("rows", "inferences", "words"),
    [(["gazel"], 1, "rows gazel; choose from plain"), ([], 1, "are none"), (["plain"], 41, "inferences = 41")],
)
def test_what_cant_be_compared_is_refused(
    rows: list[str], inferences: int, words: str, pictures: Pictures, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        compare(small_network(), pictures, tmp_path, rows=rows, inferences=inferences)


def test_a_row_from_elsewhere_may_be_left_out(comparison: Comparison) -> None:
    left_out = replace(comparison, elsewhere=(ElsewhereRow(method="cheetah", skipped="no wheel: spu"),))
    assert "skipped: no wheel: spu" in markdown(left_out)
    assert page(left_out).count('role="img"') == 2 * len(comparison.rows)


def test_a_row_from_elsewhere_stands_beside_ours(comparison: Comparison) -> None:
    measured = ElsewhereRow(method="cheetah", inferences=1, first_bytes=2e6, first_s=3.0, same_class=1.0)
    both = replace(comparison, elsewhere=(measured,))
    assert "2.00 MB (first)" in markdown(both).replace("\N{NO-BREAK SPACE}", " ")
    assert [chart.rows[-1].bars[-1].percent > 0 for chart in charts(both)] == [True, True]


def test_the_papers_ratio_is_gazelles_bytes_over_a_raw_picture() -> None:
    gazelle = PUBLISHED[0]
    assert gazelle.total_bytes == 1236 * MIB
    assert gazelle.total_bytes / (3 * 32 * 32) == pytest.approx(PAPERS_DATA_RATIO, rel=0.003)
