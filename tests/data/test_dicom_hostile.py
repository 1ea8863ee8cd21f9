"""Files that are no pictures, have no preamble, are damaged, or would take time and memory: a sentence for each."""

import resource
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from mple.data import DataError

pydicom = pytest.importorskip("pydicom")
from mple.data.dicom_files import objects  # noqa: E402
from mple.data.dicom_files.reader import DicomFiles  # noqa: E402
from tests.support.dicom_files import read_dicom, write_compressed, write_dicom  # noqa: E402

PIXELS = np.array([[0, 1], [2, 3]], np.uint16)
SHOWN = [[0, 85], [170, 255]]
DEFLATED, IMPLICIT, BIG = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
OPEN = 0xFFFFFFFF
ITEM, END_ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, OPEN), struct.pack("<HHI", 0xFFFE, 0xE00D, 0)


def _long(group: int, number: int, vr: bytes, length: int) -> bytes:
    """The head of an element whose length takes four bytes."""
    return struct.pack("<HH2sHI", group, number, vr, 0, length)


def _with(path: Path, added: bytes, before: tuple[int, int]) -> Path:
    """A file with bytes added before an element."""
    content = path.read_bytes()
    place = content.index(struct.pack("<HH", *before))
    path.write_bytes(content[:place] + added + content[place:])
    return path


def _body(path: Path) -> tuple[bytes, bytes]:
    """A file's preamble with its meta information, and what follows."""
    content = path.read_bytes()
    end = 144 + struct.unpack("<I", content[140:144])[0]
    return content[:end], content[end:]


def _refusal(path: Path) -> str:
    """What the header and the picture are refused with, which is one sentence that names the file."""
    texts = set()
    reader = DicomFiles((), 16 * 1024**3)
    for read in (reader.header, reader.picture):
        with pytest.raises(DataError) as caught:
            read(path)
        texts.add(str(caught.value))
    assert len(texts) == 1
    text = texts.pop()
    assert text.startswith(f"DICOM file {path} can't be read: ") and "\n" not in text
    return text


# --- without a preamble ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", IMPLICIT, BIG])
@pytest.mark.parametrize("has_meta", [True, False])
def test_files_without_preamble_are_read(tmp_path: Path, syntax: str, has_meta: bool) -> None:
    head, body = _body(write_dicom(tmp_path / "a", PIXELS, syntax=syntax))
    (tmp_path / "a").write_bytes((head[132:] if has_meta else b"") + body)
    assert DicomFiles((), 10**9).header(tmp_path / "a").width == 2
    assert read_dicom(tmp_path / "a").tolist() == SHOWN


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"\x89PNG\r\n\x1a\n" + bytes(200), b"\xff\xd8\xff\xe0" + bytes(200), bytes(500)],
)
def test_what_is_no_dicom_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert 'it is no DICOM file; ordinary pictures are read with kind = "folder"' in _refusal(tmp_path / "a")


@pytest.mark.parametrize("size", [132, 140, 150, 300])
def test_files_that_end_early_are_named(tmp_path: Path, size: int) -> None:
    path = write_dicom(tmp_path / "a", PIXELS)
    path.write_bytes(path.read_bytes()[:size])
    assert "ends before its first attribute" in _refusal(path) or "no picture but" in _refusal(path)


# --- objects that are no pictures --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sop_class", "name"),
    [
        ("1.2.840.10008.5.1.4.1.1.88.59", "Key Object Selection Document"),
        ("1.2.840.10008.5.1.4.1.1.11.1", "Grayscale Softcopy Presentation State"),
        ("1.2.840.10008.5.1.4.1.1.88.67", "X-Ray Radiation Dose SR"),
        ("1.2.840.10008.5.1.4.1.1.481.3", "RT Structure Set"),
        ("1.2.840.10008.5.1.4.1.1.104.1", "Encapsulated PDF"),
        ("1.2.840.10008.5.1.4.1.1.66", "Raw Data"),
        ("1.2.840.10008.1.3.10", "DICOMDIR"),
        ("1.2.3.4", "1.2.3.4"),
    ],
)
def test_objects_without_pixels_are_named(tmp_path: Path, sop_class: str, name: str) -> None:
    path = write_dicom(tmp_path / "a", PIXELS, sop_class=sop_class)
    about = pydicom.dcmread(path)
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(about, keyword)
    about.save_as(path)
    assert f"it is no picture but a {name}, without pixels; take it out of the table" in _refusal(path)


@pytest.mark.parametrize("frames", [0, 2, 2147483647])
def test_counts_of_frames_are_named(tmp_path: Path, frames: int) -> None:
    assert f"holds {frames} frames" in _refusal(write_dicom(tmp_path / "a", PIXELS, NumberOfFrames=frames))


@pytest.mark.parametrize(
    ("tags", "text"),
    [
        ({"Rows": 65535, "Columns": 65535}, "it says it is 65535x65535; a picture has at most 89478485 pixels"),
        ({"Rows": 0}, "without Rows and Columns"),
        ({"Rows": None}, "without Rows and Columns"),
        ({"BitsAllocated": None}, "it has no BitsAllocated"),
        ({"PhotometricInterpretation": None}, "PhotometricInterpretation '' is not read"),
    ],
)
def test_absurd_attributes_are_named(tmp_path: Path, tags: dict[str, int], text: str) -> None:
    assert text in _refusal(write_dicom(tmp_path / "a", PIXELS, **tags))


def test_what_a_file_says_can_not_steer_a_terminal(tmp_path: Path) -> None:
    content = write_dicom(tmp_path / "a", PIXELS, sop_class="1.2.3.4").read_bytes()
    (tmp_path / "a").write_bytes(content.replace(b"MONOCHROME2 ", b"\x1b[2J\x1b[H\x9b31m "))
    text = _refusal(tmp_path / "a")
    assert "is not read" in text and text.isprintable()


# --- bounds ------------------------------------------------------------------------------------------------------


def test_deep_sequences_are_named(tmp_path: Path) -> None:
    deep = (_long(0x0009, 0x1001, b"SQ", OPEN) + ITEM) * 50_000
    path = _with(write_dicom(tmp_path / "a", PIXELS), deep, (0x0028, 0x0002))
    assert "its sequences are nested too deep" in _refusal(path)


def test_sequences_of_stated_length_are_skipped_however_deep(tmp_path: Path) -> None:
    deep = b""
    for _ in range(2_000):
        deep = struct.pack("<HHI", 0xFFFE, 0xE000, len(deep)) + deep
        deep = _long(0x0009, 0x1001, b"SQ", len(deep)) + deep
    path = _with(write_dicom(tmp_path / "a", PIXELS), deep, (0x0028, 0x0002))
    assert read_dicom(path).tolist() == SHOWN


@pytest.mark.parametrize(
    ("added", "text"),
    [
        (_long(0x0028, 0x1201, b"OW", 0xFFFFFF00), "its attributes take more than 4194304 bytes"),
        (_long(0x0028, 0x1201, b"OW", 5_000_000) + bytes(5_000_000), "its attributes take more than 4194304 bytes"),
        (_long(0x0009, 0x1001, b"SQ", OPEN) + (ITEM + END_ITEM) * 600, "more than 1000 attributes and items"),
        (struct.pack("<HH2sH", 0x0009, 0x1001, b"LO", 0) * 1_100, "more than 1000 attributes and items"),
        (_long(0x0028, 0x3000, b"SQ", 2_000_000) + bytes(2_000_000), "a sequence of it takes 2000000 bytes"),
    ],
)
def test_endless_headers_are_named(tmp_path: Path, added: bytes, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "_MOST_READS", 1_000)
    assert text in _refusal(_with(write_dicom(tmp_path / "a", PIXELS), added, (0x0028, 0x0002)))


def test_large_attributes_that_no_picture_needs_are_skipped(tmp_path: Path) -> None:
    added = _long(0x0009, 0x1001, b"OB", 20_000_000) + bytes(20_000_000)
    assert read_dicom(_with(write_dicom(tmp_path / "a", PIXELS), added, (0x0028, 0x0002))).tolist() == SHOWN


@pytest.mark.parametrize("where", ["attributes", "pixels"])
def test_a_deflated_file_is_inflated_within_bounds(tmp_path: Path, where: str) -> None:
    path = write_dicom(tmp_path / "a", PIXELS, syntax=DEFLATED)
    head, body = _body(path)
    assert read_dicom(path).tolist() == SHOWN
    plain = zlib.decompress(body, -zlib.MAX_WBITS)
    attributes = plain[: plain.index(struct.pack("<HH2s", 0x7FE0, 0x0010, b"OW"))]
    bomb = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    begin = attributes + _long(0x7FE0, 0x0010, b"OW", 0xFFFFFFF0) if where == "pixels" else b""
    pieces = [bomb.compress(begin or _long(0x0008, 0x0000, b"OB", 0xF0000000))]
    pieces += [bomb.compress(bytes(1 << 20)) for _ in range(150)]
    path.write_bytes(head + b"".join(pieces) + bomb.flush())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="more than one frame" if where == "pixels" else "without pixels"):
        read_dicom(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # KiB


@pytest.mark.parametrize("syntax", [DEFLATED, "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.70"])
def test_large_pictures_that_are_not_there_are_named(tmp_path: Path, syntax: str) -> None:
    size = {"Rows": 9400, "Columns": 9400}
    if syntax == DEFLATED:
        path = write_dicom(tmp_path / "a", PIXELS, syntax=syntax, **size)
    else:
        path = write_compressed(tmp_path / "a", PIXELS, b"\xff\xd8\xff\xc3" + bytes(60), syntax, **size)
    with pytest.raises(DataError, match=r"cut off|compressed pixels are 0x0, the file says 9400x9400"):
        read_dicom(path)


def test_too_little_memory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> None:
        raise MemoryError

    path = write_dicom(tmp_path / "a", PIXELS)
    monkeypatch.setattr(objects, "_refuse_frames", none_left)
    assert "it takes more memory than there is" in _refusal(path)


@pytest.mark.parametrize("seed", range(40))
def test_damage_anywhere_is_a_sentence_or_a_picture(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    content = bytearray(write_dicom(tmp_path / "a", PIXELS, RescaleSlope=1, WindowCenter=1, WindowWidth=2).read_bytes())
    for place in random.integers(132, len(content), 1 + seed % 5):
        content[place] = random.integers(256)
    (tmp_path / "a").write_bytes(content[: len(content) - seed % 3 * 7])
    with suppress(DataError):
        assert read_dicom(tmp_path / "a").dtype == np.uint8
