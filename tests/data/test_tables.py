"""CSV tables as spreadsheets write them: read right, or refused by a sentence that names line and cell."""

import os
from pathlib import Path
from typing import Any

import pytest

from mple.data import DataError, open_source
from mple.data.dicom import DicomSource
from mple.data.label_table import LabelRow, read_label_table

CELLS = [("a.dcm", "sick", "train", "P1"), ("b.dcm", "well", "test", "P2")]
HEADER = ("file", "label", "split", "patient")


def _read(folder: Path, content: str | bytes) -> list[LabelRow]:
    path = folder / "labels.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_label_table(path).rows)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_all_ways_to_write_a_table_say_the_same(
    tmp_path: Path, separator: str, quote: str, mark: str, end: str
) -> None:
    lines = [separator.join(f"{quote}{cell}{quote}" for cell in row) for row in (HEADER, *CELLS)]
    rows = _read(tmp_path, mark + end.join(lines) + end)
    assert [(row.file, row.label, row.split, row.patient) for row in rows] == CELLS


def test_blanks_around_cells_and_empty_lines_do_not_count(tmp_path: Path) -> None:
    rows = _read(tmp_path, " label , file\n\n sick ,a.dcm \n,\nwell,b.dcm\n\n")
    assert [(row.label, row.file, row.split, row.patient) for row in rows] == [
        ("sick", "a.dcm", None, ""),
        ("well", "b.dcm", None, ""),
    ]


@pytest.mark.parametrize(
    ("said", "split"), [("valid", "val"), ("validation", "val"), ("Train", "train"), ("TEST", "test"), ("val", "val")]
)
def test_splits_go_by_any_of_their_names(tmp_path: Path, said: str, split: str) -> None:
    assert _read(tmp_path, f"file,label,split\na.dcm,sick,{said}\n")[0].split == split


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("file,label,label\na,b,c\n", "two columns 'label'; take one away"),
        ("file,label,file \na,b,c\n", "two columns 'file'"),
        ("file,label,Split\na,b,test\n", "the column 'Split', which means nothing here"),
        ("file,label,patient_id\na,b,c\n", "the column 'patient_id', which means nothing"),
        (",file,label\n0,a,b\n", "the column '', which means nothing"),
        ("file|label\na|b\n", r"\['file\|label'\]; needs file,label.*parted by commas, semicolons or tabs"),
        ("", r"has the columns \[\]; needs file,label"),
        ("file,label\n", "has no row below its header"),
        ("file,label\na.dcm\n", "line 2 has 1 cells, the header 2"),
        ("file,label\na.dcm,sick,much\n", "line 2 has 3 cells, the header 2; quote cells"),
        ("file,label\na.dcm,sick\n./a.dcm,well\n", "line 3: ./a.dcm is named twice, first in line 2"),
        ("file,label\nx//a.dcm,sick\nx/a.dcm,sick\n", "named twice, first in line 2"),
        ("file,label\n../a.dcm,sick\n", "leads out of the folder"),
        ("file,label\na.dcm,\n", "line 2: file or label is empty"),
        ("file,label,split\na.dcm,sick,train\nb.dcm,well,\n", "line 3: split is empty, other rows have one"),
        ("file,label,split\na.dcm,sick,all\n", "split 'all'; choose one of train, training, val"),
        ("file,label,patient\na.dcm,sick,P1\nb.dcm,well,\n", "line 3: patient is empty or missing"),
        ("file,label,patient\na.dcm,sick,nan\n", "line 2: patient is empty or missing"),
        ("file,label\na.dcm,si\x07ck\n", r"line 2: 'si\\x07ck' has a character that can't be seen"),
        ('file,label\n"a\nb.dcm",sick\n', r"'a\\nb.dcm' has a character"),
        ("file,label\na.dcm,'sick'\n", "'sick' is in other quotes"),
        ("file,label\na.dcm,“sick”\n", "is in other quotes"),
        ('file,label\n"a.dcm,sick\nb.dcm,well\n', "is no CSV"),
        ('file,label\n"a"b.dcm,sick\n', "is no CSV"),
        ("file,label\na.dcm,H\xe4mangiom\n".encode("latin-1"), "is not UTF-8"),
        ("file,label\na.dcm,sick\n".encode("utf-16"), "is UTF-16; save it as CSV in UTF-8"),
        ("file,label\na.dcm,sick\n".encode("utf-16-le"), r"has the columns \['f\\+u0000i"),
    ],
)
def test_tables_that_are_doubtful_are_refused(tmp_path: Path, content: str | bytes, text: str) -> None:
    with pytest.raises(DataError, match=text) as caught:
        _read(tmp_path, content)
    assert str(caught.value).isprintable()


def _file(path: Path) -> None:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    made = FileDataset(path, {}, file_meta=meta, preamble=bytes(128))
    made.Rows = made.Columns = 4
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation, made.PixelData = 7, 0, bytes(range(16))
    made.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize(
    ("lies", "said"),
    [("H\xe4.dcm", "Ha\u0308.dcm"), ("Ha\u0308.dcm", "H\xe4.dcm"), ("A.DCM", "a.dcm"), ("a .dcm", "a  .dcm")],
)
def test_a_file_under_a_name_that_looks_alike_is_shown(tmp_path: Path, lies: str, said: str) -> None:
    pytest.importorskip("pydicom")
    for name in (lies, "b.dcm"):
        _file(tmp_path / name)
    (tmp_path / "labels.csv").write_text(f"file,label\n{said},sick\nb.dcm,well\n")
    with pytest.raises(DataError) as caught:
        open_source(DicomSource(path=tmp_path))
    assert f"line 2: {said!a} is not there, but {lies!a} is" in str(caught.value)


@pytest.mark.parametrize("make", [os.link, os.symlink])
def test_two_rows_for_one_file_under_two_names_are_refused(tmp_path: Path, make: Any) -> None:
    pytest.importorskip("pydicom")
    _file(tmp_path / "a.dcm")
    make(tmp_path / "a.dcm", tmp_path / "b.dcm")
    (tmp_path / "labels.csv").write_text("file,label\na.dcm,sick\nb.dcm,well\n")
    with pytest.raises(DataError, match=r"a\.dcm and .*b\.dcm are one file under two names"):
        open_source(DicomSource(path=tmp_path))


@pytest.mark.parametrize("labels", [("Tumor", "tumor"), ("H\xe4", "Ha\u0308"), ("1", "1.0"), ("sick", "NA")])
def test_labels_that_look_alike_are_refused(tmp_path: Path, labels: tuple[str, str]) -> None:
    pytest.importorskip("pydicom")
    _file(tmp_path / "a.dcm")
    (tmp_path / "labels.csv").write_text(f"file,label\na.dcm,{labels[0]}\nb.dcm,{labels[1]}\n")
    with pytest.raises(DataError, match=r"look alike|one name in two Unicode forms|looks like a missing value"):
        open_source(DicomSource(path=tmp_path))


def test_a_name_that_no_file_can_have_is_a_sentence(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    _file(tmp_path / "a.dcm")
    (tmp_path / "labels.csv").write_text(f"file,label\na.dcm,sick\n{'x' * 3000},well\n")
    with pytest.raises(DataError, match="can't be read: File name too long"):
        open_source(DicomSource(path=tmp_path))
