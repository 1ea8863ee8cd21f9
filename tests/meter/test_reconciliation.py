"""Merged ledgers: the balance of hand-made rows, overhead whose parts sum to the total, and the table for others."""

from __future__ import annotations

import csv
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mple.meter import Direction, Ledger, MessageFacts, MessageKind
from mple.meter.reconciliation import (
    Balance,
    Overhead,
    SiteImages,
    SiteOverhead,
    balance,
    bytes_by_kind,
    export_csv,
    merge,
    overhead,
)
from tests.support.ledger_entries import RECEIVED, SENT, book, entry

NORTH, COORDINATOR = "site/north", "coordinator/coordinator"
PARTS = ("data", "label", "layer", "basis", "logits", "network", "setup", "control", "framing")


def merged_of(folder: Path, *ledgers: Path) -> Path:
    merge(ledgers, folder / "merged.sqlite")
    return folder / "merged.sqlite"


def parts_of(site: SiteOverhead) -> dict[str, int]:
    return {part: getattr(site, f"{part}_bytes") for part in PARTS}


# Balance.


def test_ledgers_that_agree(tmp_path: Path) -> None:
    north = book(tmp_path, NORTH, [entry(SENT, "a", 0, 10), entry(SENT, "a", 1, 0), entry(RECEIVED, "a", 0, 30)])
    coordinator = book(
        tmp_path, COORDINATOR, [entry(RECEIVED, "a", 0, 10), entry(RECEIVED, "a", 1, 0), entry(SENT, "a", 0, 30)]
    )
    found = balance(merged_of(tmp_path, north, coordinator))
    assert found == Balance(matched=3, lost=0, only_sent=0, only_received=0, size_differs=0, offenders=())
    assert found.whole


def test_ledgers_that_do_not_agree(tmp_path: Path) -> None:
    north = book(
        tmp_path,
        NORTH,
        [
            entry(SENT, "matched", 0, 10),
            entry(SENT, "cut", 0, 20),
            entry(SENT, "cut", 1, 21),
            entry(SENT, "holed", 0, 22),
            entry(SENT, "holed", 1, 23),
            entry(SENT, "differs", 0, 30),
            entry(SENT, "emptied", 0, 31),
            entry(RECEIVED, "invented", 0, 40),
        ],
    )
    coordinator = book(
        tmp_path,
        COORDINATOR,
        [
            entry(RECEIVED, "matched", 0, 10),
            entry(RECEIVED, "holed", 1, 23),
            entry(RECEIVED, "differs", 0, 33),
            entry(RECEIVED, "emptied", 0, 0),
        ],
    )
    found = balance(merged_of(tmp_path, north, coordinator))
    assert (found.matched, found.lost, found.only_sent) == (2, 2, 1)
    assert (found.only_received, found.size_differs) == (1, 2)
    assert not found.balanced
    assert sorted(found.offenders) == [
        "site/north received Feed invented/0 of 40 B that nobody sent",
        "site/north sent Feed differs/0 of 30 B, the other end has 33 B",
        "site/north sent Feed emptied/0 of 31 B, the other end has 0 B",
        "site/north sent Feed holed/0 of 22 B, the other end has nothing",
    ]


def test_a_cut_call_is_balanced_but_not_whole(tmp_path: Path) -> None:
    north = book(tmp_path, NORTH, [entry(SENT, "cut", 0), entry(SENT, "cut", 1), entry(SENT, "b")])
    coordinator = book(tmp_path, COORDINATOR, [entry(RECEIVED, "cut", 0), entry(RECEIVED, "b")])
    found = balance(merged_of(tmp_path, north, coordinator))
    assert (found.matched, found.lost) == (2, 1)
    assert found.balanced
    assert not found.whole


def test_ranks_of_one_party_each_have_a_ledger(tmp_path: Path) -> None:
    """Both under the party's name; calls tell their messages apart, also where equal ones are cut at one of them."""
    compute = "compute/gpu"
    sent = [entry(SENT, call, index, 10, peer=compute) for call in ("to-0", "to-1") for index in (0, 1, 2)]
    asked = [entry(RECEIVED, call, 0, 5, peer=compute) for call in ("to-0", "to-1")]
    north, ranks = book(tmp_path, NORTH, [*sent, *asked]), []
    for rank, received in enumerate((3, 2)):
        (tmp_path / str(rank)).mkdir()
        rows = [entry(RECEIVED, f"to-{rank}", index, 10, peer=NORTH) for index in range(received)]
        ranks.append(book(tmp_path / str(rank), compute, [entry(SENT, f"to-{rank}", 0, 5, peer=NORTH), *rows]))
    found = balance(merged_of(tmp_path, north, *ranks))
    assert (found.matched, found.lost, found.balanced) == (7, 1, True)
    (tmp_path / "merged.sqlite").unlink()
    found = balance(merged_of(tmp_path, north, ranks[0]))
    assert (found.matched, found.only_received, found.balanced) == (4, 1, False)


def test_nothing_is_taken_for_lost_where_the_other_end_has_no_book(tmp_path: Path) -> None:
    north = book(tmp_path, NORTH, [entry(SENT, "a")])
    other = book(tmp_path, "compute/gpu", [entry(RECEIVED, "a", peer=NORTH)])
    assert balance(merged_of(tmp_path, north, other)).whole
    (tmp_path / "merged.sqlite").unlink()
    assert not balance(merged_of(tmp_path, north)).balanced


def test_samples_sent_once_more_are_counted_apart(tmp_path: Path) -> None:
    facts = MessageFacts(MessageKind.DATA, payload_bytes=80, label_bytes=8, samples=4, resent_samples=3)
    north = book(
        tmp_path,
        NORTH,
        [entry(SENT, "a", 0, 100, facts), entry(SENT, "a", 1, 100, MessageFacts(MessageKind.DATA, 80, 8, 4))],
    )
    whole = overhead(merged_of(tmp_path, north), [SiteImages(name="north", images=4, raw_pixel_bytes=100)])
    assert (whole.sum("resent_samples"), whole.sum("resent_bytes"), whole.sum("data_bytes")) == (3, 60, 160)


def test_a_node_is_not_its_own_other_end(tmp_path: Path) -> None:
    north = book(tmp_path, NORTH, [entry(SENT, "a"), entry(RECEIVED, "a")])
    found = balance(merged_of(tmp_path, north))
    assert (found.matched, found.only_sent, found.only_received) == (0, 1, 1)


def test_place_and_call_decide_not_time_or_size(tmp_path: Path) -> None:
    north = book(tmp_path, NORTH, [entry(SENT, "a", 0, 10), entry(SENT, "b", 0, 10), entry(SENT, "b", 1, 10)])
    coordinator = book(tmp_path, COORDINATOR, [entry(RECEIVED, "b", 0, 10), entry(RECEIVED, "c", 0, 10)])
    found = balance(merged_of(tmp_path, north, coordinator))
    assert (found.matched, found.lost, found.only_sent, found.only_received) == (1, 2, 0, 1)
    assert not found.balanced


def test_only_the_first_offenders_are_named(tmp_path: Path) -> None:
    north = book(tmp_path, NORTH, [entry(SENT, "a", number) for number in range(50)])
    found = balance(merged_of(tmp_path, north))
    assert found.only_sent == 50
    assert len(found.offenders) == 5


# Merging.


def test_merge_takes_all_rows_of_more_ledgers_than_sqlite_attaches(tmp_path: Path) -> None:
    ledgers = [book(tmp_path, f"site/s{number}", [entry(SENT, f"c{number}")] * 3) for number in range(12)]
    assert balance(merged_of(tmp_path, *ledgers)).only_sent == 36


def test_merge_reads_what_an_open_ledger_has_flushed(tmp_path: Path) -> None:
    with Ledger(tmp_path / "open.sqlite", NORTH) as ledger:
        ledger.record(entry(SENT, "a"))
        assert balance(merged_of(tmp_path, tmp_path / "open.sqlite")).only_sent == 1


def test_merge_writes_over_nothing(tmp_path: Path) -> None:
    north = book(tmp_path, NORTH, [entry(SENT, "a")])
    merged_of(tmp_path, north)
    with pytest.raises(FileExistsError, match="remove it to merge anew"):
        merged_of(tmp_path, north)


def test_merge_of_a_ledger_that_is_not_there_leaves_nothing_behind(tmp_path: Path) -> None:
    north = book(tmp_path, NORTH, [entry(SENT, "a")])
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match=r"no ledger at .*south\.sqlite"):
        merged_of(tmp_path, north, tmp_path / "south.sqlite")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


# Overhead.


def test_every_byte_is_in_the_part_that_it_belongs_to(tmp_path: Path) -> None:
    north = book(
        tmp_path,
        NORTH,
        [
            entry(SENT, "a", 0, 1100, MessageFacts(MessageKind.DATA, payload_bytes=1000, label_bytes=20)),
            entry(SENT, "a", 1, 520, MessageFacts(MessageKind.TEST_DATA, payload_bytes=500)),
            entry(SENT, "b", 0, 310, MessageFacts(MessageKind.LAYER, payload_bytes=300)),
            entry(SENT, "c", 0, 41, MessageFacts(MessageKind.SETUP)),
            entry(SENT, "d", 0, 12, MessageFacts(MessageKind.SCORE)),
            entry(RECEIVED, "a", 0, 60, MessageFacts(MessageKind.REQUEST)),
            entry(RECEIVED, "a", 1, 210, MessageFacts(MessageKind.LOGITS, payload_bytes=200)),
            entry(RECEIVED, "e", 0, 707, MessageFacts(MessageKind.NETWORK, payload_bytes=700)),
        ],
    )
    coordinator = book(tmp_path, COORDINATOR, [entry(RECEIVED, "c", 0, 41, MessageFacts(MessageKind.SETUP))])
    images = SiteImages(name="north", images=3, raw_pixel_bytes=3 * 3072)
    found = overhead(merged_of(tmp_path, north, coordinator), [images])
    (site,) = found.sites
    assert parts_of(site) == {
        "data": 1500,
        "label": 20,
        "layer": 300,
        "basis": 0,
        "logits": 200,
        "network": 700,
        "setup": 41,
        "control": (80 + 20 + 10) + 12 + 60 + 10 + 7,
        "framing": 8 * 5,
    }
    assert site.uplink_bytes == 1100 + 520 + 310 + 41 + 12 + 5 * 5
    assert site.downlink_bytes == 60 + 210 + 707 + 3 * 5
    assert site.total_bytes == sum(parts_of(site).values())
    assert site.ratio == site.total_bytes / 9216


def payload() -> st.SearchStrategy[tuple[Direction, MessageKind, int, int, int]]:
    """Direction, kind, payload, labels, fields around them."""
    small = st.integers(0, 1 << 40)
    return st.tuples(st.sampled_from(Direction), st.sampled_from(MessageKind), small, small, small).map(
        lambda row: row if row[1] is not MessageKind.SETUP else (row[0], row[1], 0, 0, row[4])
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(payload(), max_size=40))
def test_parts_sum_exactly_to_the_total(messages: list[tuple[Direction, MessageKind, int, int, int]]) -> None:
    entries = [
        entry(way, f"c{number}", 0, payload + labels + fields, MessageFacts(kind, payload, labels))
        for number, (way, kind, payload, labels, fields) in enumerate(messages)
    ]
    with tempfile.TemporaryDirectory() as folder:
        north = book(Path(folder), NORTH, entries)
        (site,) = overhead(
            merged_of(Path(folder), north), [SiteImages(name="north", images=1, raw_pixel_bytes=1)]
        ).sites
    assert sum(parts_of(site).values()) == site.total_bytes == sum(one.framed_bytes for one in entries)
    assert min(parts_of(site).values()) >= 0, "a byte was put in two parts"


def test_sites_are_summed_and_each_byte_counted_once(tmp_path: Path) -> None:
    north = book(tmp_path, NORTH, [entry(SENT, "a", 0, 95)])
    south = book(tmp_path, "site/south", [entry(SENT, "b", 0, 195), entry(RECEIVED, "b", 0, 45)])
    coordinator = book(tmp_path, COORDINATOR, [entry(RECEIVED, "a", 0, 95), entry(RECEIVED, "b", 0, 195)])
    merged = merged_of(tmp_path, north, south, coordinator)
    found = overhead(
        merged,
        [SiteImages(name=name, images=1, raw_pixel_bytes=100) for name in ("north", "south")],
    )
    assert [site.total_bytes for site in found.sites] == [100, 250]
    assert (found.sum("total_bytes"), found.sum("uplink_bytes"), found.sum("downlink_bytes")) == (350, 300, 50)
    assert found.ratio == 350 / 200


def test_a_site_that_never_spoke(tmp_path: Path) -> None:
    merged = merged_of(tmp_path, book(tmp_path, COORDINATOR, []))
    (site,) = overhead(merged, [SiteImages(name="north", images=1, raw_pixel_bytes=3072)]).sites
    assert (site.total_bytes, site.ratio) == (0, 0)
    assert Overhead(()).ratio == 0


def test_sums_by_kind(tmp_path: Path) -> None:
    data = MessageFacts(MessageKind.DATA, payload_bytes=80, label_bytes=4)
    north = book(tmp_path, NORTH, [entry(SENT, "a", 0, 95, data), entry(SENT, "a", 1, 95, data)])
    south = book(tmp_path, "site/south", [entry(SENT, "b", 0, 95, data), entry(RECEIVED, "b", 0, 5)])
    coordinator = book(tmp_path, COORDINATOR, [entry(RECEIVED, "a", 0, 95, data)])
    first, second = bytes_by_kind(merged_of(tmp_path, north, south, coordinator))
    assert (first.kind, first.direction, first.messages) == (MessageKind.DATA, "sent", 3)
    assert (first.payload_bytes, first.framed_bytes) == (3 * 84, 300)
    assert (second.kind, second.direction, second.framed_bytes) == (MessageKind.EVENT, "received", 10)


# Export.


def test_csv_has_all_rows_oldest_first(tmp_path: Path) -> None:
    north = book(tmp_path, NORTH, [entry(SENT, "late", time_unix_ns=3), entry(SENT, 'a,"b"', time_unix_ns=1)])
    coordinator = book(tmp_path, COORDINATOR, [entry(RECEIVED, "middle", time_unix_ns=2)])
    merged = merged_of(tmp_path, north, coordinator)
    export_csv(merged, tmp_path / "ledger.csv")
    with (tmp_path / "ledger.csv").open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    ledgers = sqlite3.connect(merged)
    columns = [row[1] for row in ledgers.execute("PRAGMA table_info(messages)")]
    stored = [[str(value) for value in row] for row in ledgers.execute("SELECT * FROM messages ORDER BY time_unix_ns")]
    ledgers.close()
    assert header == columns
    assert lines == stored
    assert [line[columns.index("call_id")] for line in lines] == ['a,"b"', "middle", "late"]
