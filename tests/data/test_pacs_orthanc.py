"""A real PACS: Orthanc with a password, as a site would read it, killed and started again meanwhile."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("dicomweb_client")
from mple.data import DataError, open_source
from mple.data.dicom import DicomSource
from mple.data.dicomweb.source import DicomWebSource
from tests.support.orthanc import Orthanc, missing_orthanc, running_orthanc
from tests.support.pacs import Made, make_instances, write_table

pytestmark = pytest.mark.skipif(bool(missing_orthanc()), reason=missing_orthanc())


@dataclass(frozen=True)
class Hospital:
    """Five studies of two series with four instances, in a PACS."""

    server: Orthanc
    made: list[Made]

    def source(self, path: Path, **settings: Any) -> DicomWebSource:
        """What is chosen of it, by all instances' UIDs where nothing else is said."""
        if "query" not in settings and "label_file" not in settings:
            rows = [{"SOPInstanceUID": one.uid, "label": "ab"[place % 2]} for place, one in enumerate(self.made)]
            settings["label_file"] = write_table(path.with_suffix(".csv"), rows)
        return DicomWebSource(url=self.server.url, path=path, password_file=self.server.password_file, **settings)


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    folder = tmp_path_factory.mktemp("hospital")
    made = make_instances(folder / "made", 5, series=2, per_series=4)
    with running_orthanc(folder / "orthanc") as server:
        server.upload(*(one.path for one in made))
        yield Hospital(server, made)


def fetched(source: DicomWebSource) -> set[str]:
    source.fetch()
    return {path.stem for path in source.path.rglob("*.dcm")}


@pytest.mark.parametrize(
    ("query", "chosen"),
    [
        (("Modality=CR",), lambda one, place: place % 8 >= 4),
        (("StudyDate=20240102-20240103",), lambda one, place: one.patient in ("P1", "P2")),
        (("StudyDescription=*4",), lambda one, place: one.patient == "P4"),
        (("StudyDescription=CHEST*", "PatientID=P3", "Modality=DX"), lambda one, place: place in range(24, 28)),
        (("AccessionNumber=A0", "InstanceNumber=2"), lambda one, place: place in (1, 5)),
    ],
)
def test_studies_are_chosen_by_query(hospital: Hospital, tmp_path: Path, query: tuple[str, ...], chosen: Any) -> None:
    expected = {one.uid for place, one in enumerate(hospital.made) if chosen(one, place)}
    assert fetched(hospital.source(tmp_path / "cache", query=query)) == expected


def test_a_search_in_pages_finds_the_same(hospital: Hospital, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mple.data.dicomweb.server._PAGE", 7)
    assert fetched(hospital.source(tmp_path / "cache", query=("StudyDate=20240101-20241231",))) == {
        one.uid for one in hospital.made
    }


@pytest.mark.parametrize("name", ["StudyInstanceUID", "PatientID", "AccessionNumber"])
def test_studies_are_chosen_by_table(hospital: Hospital, tmp_path: Path, name: str) -> None:
    rows = [{name: hospital.made[8 * place].keys[name], "label": label} for place, label in ((3, "a"), (1, "b"))]
    source = hospital.source(
        tmp_path / "cache", label_file=write_table(tmp_path / "t.csv", rows), query=("Modality=DX",)
    )
    labels = source.fetched().label_file
    assert labels is not None
    found = [
        (Path(file).stem, label) for file, label in (line.split(",") for line in labels.read_text().splitlines()[1:])
    ]
    assert found == [
        (hospital.made[8 * study + k].uid, label) for study, label in ((3, "a"), (1, "b")) for k in range(4)
    ]


def test_a_server_that_is_killed_and_started_again_gives_what_a_folder_gives(
    hospital: Hospital, tmp_path: Path
) -> None:
    with running_orthanc(tmp_path / "orthanc") as server:
        server.upload(*(one.path for one in hospital.made))
        source = replace(hospital, server=server).source(tmp_path / "cache", patience_s=60.0)
        killed = threading.Event()
        told: list[str] = []

        def tell(text: str, done: int, total: int) -> None:
            told.append(f"{text}: {done} of {total}")
            if text == "fetching" and done == 7 and not killed.is_set():
                server.kill()
                killed.set()

        def restart() -> None:
            killed.wait(60)
            time.sleep(0.5)
            server.start()

        starter = threading.Thread(target=restart)
        starter.start()
        found = open_source(source.fetched(tell))
        starter.join()
        assert [text for text in told if "Connection refused; next try in" in text and text.endswith(": 7 of 40")]
        assert source.changes() == ()
    rows = [{"file": one.path.name, "label": "ab"[place % 2]} for place, one in enumerate(hospital.made)]
    folder = hospital.made[0].path.parent
    expected = open_source(DicomSource(path=folder, label_file=write_table(tmp_path / "files.csv", rows)))
    for split in ("train", "test"):
        assert np.array_equal(getattr(found, split).pixels_NCHW, getattr(expected, split).pixels_NCHW)
        assert np.array_equal(getattr(found, split).labels, getattr(expected, split).labels)
    kept = {path.stem: path.read_bytes() for path in source.path.rglob("*.dcm")}
    assert kept == {one.uid: one.path.read_bytes() for one in hospital.made}


def test_an_instance_that_was_replaced_is_told_of(hospital: Hospital, tmp_path: Path) -> None:
    made = make_instances(tmp_path / "made", 1)
    with running_orthanc(tmp_path / "orthanc") as server:
        server.upload(*(one.path for one in made))
        source = replace(hospital, server=server, made=made).source(tmp_path / "cache")
        source.fetch()
        content = bytearray(made[0].path.read_bytes())
        content[-1] ^= 1
        made[0].path.write_bytes(content)
        (found,) = [
            one
            for one in json.loads(server.ask("/instances?expand"))
            if one["MainDicomTags"]["SOPInstanceUID"] == made[0].uid
        ]
        server.ask(f"/instances/{found['ID']}", method="DELETE")
        assert source.changes() == ("1 of 2 instances are in the cache and no more at the server",)
        server.upload(made[0].path)
        assert source.changes() == ("1 of 2 instances have changed at the server since they were fetched",)


def test_what_the_server_does_not_know_is_told(hospital: Hospital, tmp_path: Path) -> None:
    source = hospital.source(tmp_path / "cache")
    wrong = tmp_path / "wrong"
    wrong.touch(0o600)
    wrong.write_text("mple:another\n")
    with pytest.raises(DataError, match=rf"refuses what {wrong} holds \(401\)"):
        replace(source, password_file=wrong).fetch()
    with pytest.raises(DataError, match=r"asks who is there \(401\); set password_file or token_file"):
        replace(source, password_file=None).fetch()
    with pytest.raises(DataError, match=r"no such instance or no such service \(404\)"):
        replace(source, url=source.url + "s").fetch()
