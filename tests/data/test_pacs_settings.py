"""What a PACS's section in a configuration may say, and what its table of labels may."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mple.data import DataError
from mple.data.dicomweb.key_table import is_uid, read_key_table
from mple.data.dicomweb.source import DicomWebSource
from mple.plan import SettingsError, settings_from


def source(**settings: Any) -> DicomWebSource:
    asked = {"kind": "dicomweb", "path": "cache", "url": "https://pacs.example/dicom-web", "query": ["Modality=DX"]}
    return settings_from(DicomWebSource, {**asked, **settings})


@pytest.mark.parametrize(
    "url",
    ["https://pacs.example", "https://pacs.example:8443/a/b/", "http://127.0.0.1:8042/x", "http://localhost/x"],
)
def test_addresses_that_are_taken(url: str) -> None:
    assert source(url=url).url == url


def test_an_address_without_encryption_is_taken_where_somebody_says_so() -> None:
    assert source(url="http://192.0.2.7/x", transport="unencrypted").url == "http://192.0.2.7/x"


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"url": "http://pacs.example/x"}, 'not encrypted.*say in words that you want this: transport = "unencrypted"'),
        ({"url": "http://127.0.0.1.example/x"}, "not encrypted"),
        ({"url": "http://localhost.example/x"}, "not encrypted"),
        ({"url": "https://ann:secret@pacs.example/x"}, "^(?!.*secret).*user or password in it.*password_file"),
        ({"url": "ftp://pacs.example/x"}, "write https://HOST/PATH"),
        ({"url": "pacs.example"}, "write https://HOST/PATH"),
        ({"url": "https://"}, "write https://HOST/PATH"),
        ({"url": "https://pacs.example:port/"}, "is no address"),
        ({"url": "https://pacs.example/?a=b"}, "without \\? and #"),
        ({"query": []}, "query and label_file are missing"),
        ({"query": ["Modality"]}, "write ATTRIBUTE=VALUE"),
        ({"query": ["Modality="]}, "write ATTRIBUTE=VALUE"),
        ({"query": ["a&b=c"]}, "write ATTRIBUTE=VALUE"),
        ({"query": ["Modality=DX", "Modality=CR"]}, "names an attribute twice"),
        ({"query": ["limit=5"]}, "no attribute of DICOM's"),
        ({"instances": "numbered"}, 'numbers go with instances = "numbered"'),
        ({"instance_numbers": [1]}, 'numbers go with instances = "numbered"'),
        ({"instances": "first"}, "choose one of all, middle, numbered"),
        ({"password_file": "a", "token_file": "b"}, "password_file and token_file are both there"),
        ({"client_key": "a"}, "client_certificate and client_key go together"),
        ({"patience_s": -1}, "patience_s = -1"),
        ({"white": 255}, "unknown key white"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        source(**settings)


def table(folder: Path, text: str) -> Path:
    path = folder / "keys.csv"
    path.write_text(text)
    return path


def test_rows_of_a_table(tmp_path: Path) -> None:
    rows = read_key_table(table(tmp_path, "label;PatientID;SOPInstanceUID;edema\na;P 1;;0\nb;;1.2.840;1\n"))
    assert [row.keys for row in rows] == [{"PatientID": "P 1"}, {"SOPInstanceUID": "1.2.840"}]
    assert [row.others for row in rows] == [{"label": "a", "edema": "0"}, {"label": "b", "edema": "1"}]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("label\na\n", "needs one of StudyInstanceUID, SeriesInstanceUID"),
        ("SOPInstanceUID,label\n", "no row below its header"),
        ("SOPInstanceUID,label\n,a\n", "line 2 names no instance"),
        ("SOPInstanceUID,label\n1..2,a\n", "line 2: SOPInstanceUID 1..2 is no UID"),
        ("StudyInstanceUID,label\n../1,a\n", "line 2: StudyInstanceUID ../1 is no UID"),
        ("PatientID,label\nA*,a\n", r"line 2: PatientID holds one of \* \? "),
        ("PatientID,label,file\nA,a,x\n", "line 2: the table has a column file"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(DataError, match=fault) as raised:
        read_key_table(table(tmp_path, text))
    assert "A*" not in str(raised.value)


def test_a_uid_leads_nowhere() -> None:
    assert is_uid("1.2.840.10008") and is_uid("0") and is_uid(64 * "1")
    assert not any(map(is_uid, ("", ".", "..", "1.", ".1", "1..2", "1/2", "1\n", "1.2 ", "a", "1-2", "١", 65 * "1")))
