"""Whether an answer is what a query asks for: servers pass over what they do not search by."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("pydicom")

from mple.data import DataError
from mple.data.dicomweb.query import query_attributes, refuse_other, texts

URL = "https://pacs.example"


def refuse(query: str, **values: Any) -> None:
    (asked,) = query_attributes([query])
    refuse_other({asked.tag: {"vr": asked.vr, **values}}, [asked], URL)


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("Modality=DX", "DX"),
        ("Modality=dx", "DX "),
        ("00080060=DX", "DX"),
        ("ModalitiesInStudy=CT", ["SR", "CT"]),
        ("StudyDescription=CHEST*", "Chest PA"),
        ("StudyDescription=*.?", "a.b"),
        ("StudyDate=20240102-20240103", "20240103"),
        ("StudyDate=20240102-", "20300101"),
        ("StudyDate=-20240102", "19991231"),
        ("StudyDate=20240102", "20240102"),
        ("StudyTime=0800-0900", "235959"),
        ("InstanceNumber=2", 2),
        ("SliceThickness=7", 7.0),
        ("SOPClassUID=1.2.3,1.2.4", "1.2.4"),
        ("PatientName=DOE*", {"Alphabetic": "Doe^John"}),
    ],
)
def test_what_matches(query: str, value: Any) -> None:
    refuse(query, Value=value if isinstance(value, list) else [value])


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("Modality=DX", "CR"),
        ("StudyDescription=CHEST*", "HEAD"),
        ("StudyDescription=a.b", "axb"),
        ("StudyDate=20240102-20240103", "20240104"),
        ("StudyDate=20240102-", "20240101"),
        ("InstanceNumber=2", 3),
        ("InstanceNumber=2", "two"),
        ("SOPClassUID=1.2.3", "1.2.33"),
    ],
)
def test_what_does_not(query: str, value: Any) -> None:
    with pytest.raises(DataError, match=rf"{URL} answered query = .* it does not search by that"):
        refuse(query, Value=[value])


@pytest.mark.parametrize(
    "raw", [{}, {"Value": []}, {"Value": [None]}, {"Value": [True]}, {"Value": "DX"}, {"Value": [""]}]
)
def test_what_a_server_does_not_tell_is_not_believed(raw: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="does not tell the Modality of what it has found, and so may not search by it"):
        refuse("Modality=DX", **raw)


@pytest.mark.parametrize("word", ["Modalty", "modality", "12345678", "1"])
def test_words_that_are_no_attributes(word: str) -> None:
    with pytest.raises(DataError, match=f"query has {word}, which is no attribute of DICOM's"):
        query_attributes([f"{word}=x"])


def test_texts_of_an_attribute() -> None:
    values = [" a\0", 1, 2.0, 2.5, {"Alphabetic": "b"}, {"x": 1}, None, False, [], "x" * 2000, "  "]
    assert texts({"00080060": {"Value": values}}, "00080060") == ["a", "1", "2", "2.5", "b"]
    assert texts({"00080060": 3}, "00080060") == texts({}, "00080060") == []
