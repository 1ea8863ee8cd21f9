"""Instances of a PACS are fetched once, whatever ends server or process; damage and changes are told of."""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("dicomweb_client")
from mple.data import DataError, open_source
from tests.support.pacs import (
    MULTIPART,
    Answer,
    Made,
    SmallPacs,
    make_instances,
    multipart,
    serving,
)
from tests.support.pacs_site import PacsSite, fetched_uids


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> list[Made]:
    return make_instances(tmp_path_factory.mktemp("made"), 2)


@pytest.fixture
def site(tmp_path: Path, instances: list[Made]) -> Iterator[PacsSite]:
    with serving(SmallPacs(instances)) as pacs:
        yield PacsSite(tmp_path, pacs)


def test_the_digests_are_those_of_the_files(site: PacsSite) -> None:
    site.fetch()
    lines = (site.folder / "cache" / "SHA256SUMS").read_text().splitlines()
    assert len(lines) == 5  # and the table of what was chosen
    for digest, file in (line.split("  ") for line in lines):
        assert hashlib.sha256((site.folder / "cache" / file).read_bytes()).hexdigest() == digest


def test_a_whole_cache_needs_no_server(site: PacsSite) -> None:
    first = fetched_uids(site.fetch())
    site.pacs.asked.clear()
    site.pacs.odd = lambda *_: pytest.fail("the server was asked")
    assert fetched_uids(site.fetch()) == first
    assert not site.pacs.asked


def test_a_corrected_label_needs_no_server(site: PacsSite) -> None:
    before = open_source(site.fetch())
    site.pacs.asked.clear()
    for row in site.rows:
        row["label"] = {"a": "b", "b": "a"}[row["label"]]
    after = open_source(site.fetch())
    assert not site.pacs.asked
    assert np.array_equal(1 - before.train.labels, after.train.labels)


def test_a_server_that_goes_away_is_waited_for_and_begun_again_where_it_was(site: PacsSite) -> None:
    busy = iter([False, False, True, True, True, False, False, False, False])
    site.pacs.odd = lambda path, _: Answer(status=503) if "/instances/" in path and next(busy) else None
    with pytest.raises(
        DataError, match=r"gave up on http://.* after 0 s: it answered 503; what has been fetched is kept"
    ):
        site.fetch(patience_s=0)
    assert site.fetched() == [one.uid for one in site.made[:3]]
    site.fetch()
    assert site.fetched()[3:] == [one.uid for one in (site.made[2], site.made[2], site.made[2], site.made[3])]
    assert sum("it answered 503; next try in" in text for text in site.told) == 2


def test_a_file_that_was_cut_off_does_not_count(site: PacsSite) -> None:
    content = site.made[0].path.read_bytes()
    cuts: list[Answer] = [
        Answer(multipart(content)[:-30], MULTIPART, length=len(multipart(content))),  # the connection breaks
        Answer(multipart(content)[:-30], MULTIPART),  # the answer ends as if it were whole
        Answer(multipart(content)[:-30], MULTIPART, length=10),
    ]
    site.pacs.odd = lambda path, _: cuts.pop() if path.endswith(site.made[0].uid) and cuts else None
    site.fetch(patience_s=20.0)
    assert site.fetched()[:4] == [site.made[0].uid] * 4
    kept = next((site.folder / "cache").rglob(f"{site.made[0].uid}.dcm"))
    assert kept.read_bytes() == content


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])])
def test_a_lost_or_damaged_file_is_fetched_again(site: PacsSite, spoil: Callable[[Path], object]) -> None:
    site.fetch()
    kept = next((site.folder / "cache").rglob(f"{site.made[1].uid}.dcm"))
    spoil(kept)
    site.pacs.asked.clear()
    site.fetch()
    assert site.fetched() == [site.made[1].uid]
    assert kept.read_bytes() == site.made[1].path.read_bytes()


def test_a_line_of_digests_that_was_cut_off_is_as_if_it_were_not_there(site: PacsSite) -> None:
    site.fetch()
    sums = site.folder / "cache" / "SHA256SUMS"
    sums.write_bytes(sums.read_bytes()[:-7])
    site.pacs.asked.clear()
    site.fetch()
    assert site.fetched() == [site.made[3].uid]
    site.fetch()
    assert len(site.fetched()) == 1


def changed(made: Made) -> bytes:
    """Another picture under the same UIDs."""
    content = bytearray(made.path.read_bytes())
    content[-1] ^= 1
    return bytes(content)


def test_an_instance_that_has_changed_at_the_server_is_told_of(site: PacsSite) -> None:
    source = site.source()
    with pytest.raises(DataError, match="does not hold everything yet"):
        source.changes()
    site.fetch()
    assert source.changes() == ()
    new = changed(site.made[1])
    site.pacs.odd = lambda path, _: Answer(multipart(new), MULTIPART) if path.endswith(site.made[1].uid) else None
    assert source.changes() == ("1 of 4 instances have changed at the server since they were fetched",)
    assert fetched_uids(site.fetch()) == [one.uid for one in site.made]
    kept = next((site.folder / "cache").rglob(f"{site.made[1].uid}.dcm"))
    assert kept.read_bytes() == site.made[1].path.read_bytes()
    kept.unlink()
    with pytest.raises(DataError, match=f"{site.made[1].uid}.dcm is lost or damaged, and http://.* with other bytes"):
        site.fetch()
    assert not kept.exists()


def test_instances_that_come_and_go_at_the_server_are_told_of(site: PacsSite) -> None:
    site.rows = site.labelled_by("StudyInstanceUID")
    gone = site.pacs.made.pop()
    site.fetch()
    site.pacs.made[0], other = gone, site.pacs.made[0]
    assert other.uid != gone.uid
    assert site.source().changes() == (
        "1 of 3 instances are new at the server and not in the cache",
        "1 of 3 instances are in the cache and no more at the server",
    )


def test_two_processes_take_turns(site: PacsSite) -> None:
    site.pacs.odd = lambda path, _: time.sleep(0.05)
    found: list[list[str]] = []
    threads = [threading.Thread(target=lambda: found.append(fetched_uids(site.fetch()))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[one.uid for one in site.made]] * 2
    assert len(site.fetched()) == 4


def test_a_cache_that_others_can_write_to_is_refused(site: PacsSite) -> None:
    site.fetch()
    (site.folder / "cache").chmod(0o777)
    with pytest.raises(DataError, match=r"the cache .* can't be used: others can write to"):
        site.fetch()


def test_what_is_missing_is_told_and_nothing_is_done_about_it(site: PacsSite) -> None:
    source = site.source()
    assert source.absent() == f"{site.pacs.url} has not been asked for what [data] chooses"
    assert not source.path.exists()
    site.fetch()
    assert source.absent() == ""
    next(source.path.rglob("*.dcm")).unlink()
    site.pacs.asked.clear()
    assert source.absent() == f"1 of 4 instances are not in {source.path}, or damaged there"
    assert not site.pacs.asked
    site.rows.pop()
    assert site.source().absent() == f"{site.pacs.url} has not been asked for what [data] chooses"


def test_it_may_be_ended_at_any_moment(site: PacsSite) -> None:
    class EndedError(Exception):
        """As by a signal."""

    left = 0

    def wait(_seconds: float) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise EndedError

    tries = 0
    while True:
        tries, left = tries + 1, 1 + tries % 7
        try:
            table = site.source().fetched(wait=wait)
            break
        except EndedError:
            continue
    assert fetched_uids(table) == [one.uid for one in site.made]
    assert tries > 3
    assert sorted(path.read_bytes() for path in table.path.rglob("*.dcm")) == sorted(
        one.path.read_bytes() for one in site.made
    )


def test_without_the_library_a_whole_cache_is_read_and_nothing_fetched(
    site: PacsSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "dicomweb_client", None)
    monkeypatch.delitem(sys.modules, "mple.data.dicomweb.server", raising=False)
    with pytest.raises(DataError, match=r"needs dicomweb-client, .* pip install 'mple\[dicomweb\]'"):
        site.fetch()
    monkeypatch.undo()
    whole = fetched_uids(site.fetch())
    monkeypatch.setitem(sys.modules, "dicomweb_client", None)
    assert fetched_uids(site.fetch()) == whole
