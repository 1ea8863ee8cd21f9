"""Which instances of a PACS are fetched, in which order: a folder with a table of the same rows gives the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("dicomweb_client")
from mple.data import DataError, open_source
from mple.data.dicom import DicomSource
from mple.data.dicomweb.source import Instances
from mple.data.patients import Patients
from tests.support.pacs import (
    Answer,
    Made,
    SmallPacs,
    dicom_json,
    make_instances,
    serving,
    write_table,
)
from tests.support.pacs_site import PacsSite, fetched_uids


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> list[Made]:
    return make_instances(tmp_path_factory.mktemp("made"), 2)


@pytest.fixture
def site(tmp_path: Path, instances: list[Made]) -> Iterator[PacsSite]:
    with serving(SmallPacs(instances)) as pacs:
        yield PacsSite(tmp_path, pacs)


def test_it_is_a_folder_with_a_table_of_the_same_rows(site: PacsSite) -> None:
    site.rows = [site.rows[place] for place in (2, 0, 3, 1)]
    by_file = [
        {"file": one.path.name, "label": row["label"]}
        for row in site.rows
        for one in site.made
        if one.uid == row["SOPInstanceUID"]
    ]
    folder = site.made[0].path.parent
    expected = open_source(DicomSource(path=folder, label_file=write_table(site.folder / "by_file.csv", by_file)))
    found = open_source(site.source())
    for split in ("train", "test"):
        assert np.array_equal(getattr(found, split).pixels_NCHW, getattr(expected, split).pixels_NCHW)
        assert np.array_equal(getattr(found, split).labels, getattr(expected, split).labels)
    for one in site.made:
        kept = site.folder / "cache" / "instances" / one.study / one.series / f"{one.uid}.dcm"
        assert kept.read_bytes() == one.path.read_bytes()
        assert kept.stat().st_mode & 0o077 == 0


def test_other_columns_of_the_table_come_along(site: PacsSite) -> None:
    for row, split in zip(site.rows, ("train", "train", "test", "val"), strict=True):
        row |= {"split": split, "patient": "p" + row["PatientID"], "edema": "1"}
    table = site.source().fetched().label_file
    assert table is not None
    assert table.read_text().splitlines()[0] == "file,label,split,patient,edema"
    assert [line.partition(",")[2] for line in table.read_text().splitlines()[1:]] == [
        f"{row['label']},{row['split']},{row['patient']},1" for row in site.rows
    ]


@pytest.mark.parametrize("names", [("StudyInstanceUID",), ("SeriesInstanceUID",), ("PatientID",), ("AccessionNumber",)])
def test_a_row_names_all_instances_that_it_matches(site: PacsSite, names: tuple[str, ...]) -> None:
    site.rows = site.labelled_by(*names)
    in_order = [
        one.uid for study in (site.made[:2], site.made[2:]) for one in sorted(study, key=lambda one: one.number)
    ]
    assert len(site.rows) == 2
    assert fetched_uids(site.fetch()) == in_order


@pytest.mark.parametrize(
    ("settings", "places"),
    [
        ({"instances": Instances.ALL}, [0, 1, 2, 3, 4]),
        ({"instances": Instances.MIDDLE}, [2]),
        ({"instances": Instances.NUMBERED, "instance_numbers": (5, 1)}, [0, 4]),
    ],
)
def test_instances_of_a_series(tmp_path: Path, settings: dict[str, Any], places: list[int]) -> None:
    made = make_instances(tmp_path / "made", 2, per_series=5)
    with serving(SmallPacs(made[::-1])) as pacs:
        site = PacsSite(tmp_path, pacs)
        site.rows = site.labelled_by("SeriesInstanceUID")[::-1]
        expected = [made[5 * study + place].uid for study in (0, 1) for place in places]
        assert fetched_uids(site.fetch(**settings)) == expected
        site.rows[0] |= {"SOPInstanceUID": made[3].uid}  # a row that names one takes that one
        site.rows[1] |= {"SOPInstanceUID": ""}
        assert fetched_uids(site.fetch(**settings)) == [made[3].uid, *expected[len(places) :]]
        with pytest.raises(DataError, match=r"line 3: a series of 5 instances has none with the InstanceNumber 9"):
            site.fetch(instances=Instances.NUMBERED, instance_numbers=(9,))


def test_a_query_narrows_the_table(site: PacsSite) -> None:
    site.rows = site.labelled_by("PatientID")
    asked: list[dict[str, str]] = []

    def remember(_path: str, query: dict[str, str]) -> None:
        asked.append(query)

    site.pacs.odd = remember
    with pytest.raises(DataError, match=r"keys.csv, line 3: PatientID is another one than query asks for"):
        site.fetch(query=("PatientID=P0",))
    assert {"limit": "1000", "offset": "0", "PatientID": "P0"}.items() <= asked[0].items()


def test_a_query_alone_is_fetched_and_listed_for_whoever_labels_it(site: PacsSite) -> None:
    source = site.source(query=("PatientID=P0",), label_file=None, patients=Patients.IGNORED)
    assert source.fetch() == (2, None)
    (listed,) = (site.folder / "cache").glob("instances-*.csv")
    with pytest.raises(DataError, match=r"without labels; copy one of its tables instances-\*.csv"):
        open_source(source)
    lines = listed.read_text().splitlines()
    table = site.folder / "labelled.csv"
    table.write_text("\n".join([f"{lines[0]},label", f"{lines[1]},a", f"{lines[2]},b"]))
    site.pacs.asked.clear()
    labelled = site.source(query=("PatientID=P0",), label_file=table, patients=Patients.IGNORED)
    assert sorted(open_source(labelled).train.labels) == [0, 1]
    assert not site.fetched()


def test_many_instances_come_in_pages(site: PacsSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mple.data.dicomweb.server._PAGE", 1)
    site.rows = site.labelled_by("StudyInstanceUID")
    assert fetched_uids(site.fetch()) == [one.uid for one in site.made]


def test_what_is_no_picture_is_named_with_the_way_out(tmp_path: Path) -> None:
    made = make_instances(tmp_path / "made", 1, per_series=1, NumberOfFrames=3)
    with (
        serving(SmallPacs(made)) as pacs,
        pytest.raises(DataError, match=r"it holds 3 frames.*; narrow query, as by Mod"),
    ):
        PacsSite(tmp_path, pacs).fetch()


def test_a_table_that_names_an_instance_twice_is_refused(site: PacsSite) -> None:
    site.rows.append({**site.rows[1], "label": "b"})
    with pytest.raises(DataError, match=r"keys.csv, line 6 and line 3 name the same instance"):
        site.fetch()


def test_a_word_that_is_no_attribute_is_named_and_nothing_is_asked(site: PacsSite) -> None:
    with pytest.raises(DataError, match="query has Modalty, which is no attribute of DICOM's"):
        site.fetch(query=("Modalty=DX",))
    assert not site.pacs.asked


def test_numbers_of_patients_that_no_table_can_hold_do_no_harm(site: PacsSite) -> None:
    def odd(path: str, query: dict[str, str]) -> Answer | None:
        if path.count("/") == 7 or query["offset"] != "0":
            return None if path.count("/") == 7 else Answer(b"[]")
        names = ("'q'", "line\nend", "a,b;c\td", 'he said "x"')
        return Answer(
            json.dumps([dicom_json(one, PatientID=name) for one, name in zip(site.made, names, strict=True)]).encode()
        )

    site.pacs.odd = lambda path, query: odd(path, query)
    source = site.source(query=("StudyInstanceUID=" + site.made[0].study + "," + site.made[2].study,), label_file=None)
    assert source.fetch() == (4, None)
    site.pacs.odd = lambda *_: pytest.fail("the server was asked")
    assert source.fetch() == (4, None)
