"""The one part of a multipart answer: the same bytes however they are cut, and nothing else is taken for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mple.data import DataError
from mple.data.dicomweb.multipart import CutOffError, instance_bytes

KIND = 'multipart/related; type="application/dicom"; boundary="b-1"'
HEAD = b"Content-Type: application/dicom\r\n\r\n"


def taken(body: bytes, kind: str = KIND, size: int = 1000) -> bytes:
    return b"".join(instance_bytes(kind, pieces(body, size)))


def pieces(body: bytes, size: int) -> Iterator[bytes]:
    yield from (body[at : at + size] for at in range(0, len(body), size))


@given(st.binary(max_size=200).filter(lambda content: b"\r\n--b-1" not in content), st.integers(1, 300))
@example(b"\r\n--b", 1)
@example(b"\r\n\r\n--\r\n", 3)
@example(b"", 1)
def test_the_part_however_its_answer_is_cut(content: bytes, size: int) -> None:
    assert taken(b"--b-1\r\n" + HEAD + content + b"\r\n--b-1--", size=size) == content
    assert taken(b"before\r\n--b-1  \r\n" + HEAD + content + b"\r\n--b-1--\r\nbehind", size=size) == content
    assert taken(b"--b-1\r\n\r\n" + content + b"\r\n--b-1--\r\n", size=size) == content


def test_a_file_without_parts_is_taken_as_it_is() -> None:
    assert taken(b"the file", "application/dicom") == b"the file"


def test_a_length_that_the_part_states_means_nothing() -> None:
    for stated in (b"0", b"2", b"99999999999999999999", b"-1"):
        body = b"--b-1\r\nContent-Length: " + stated + b"\r\n" + HEAD + b"picture\r\n--b-1--"
        assert taken(body) == b"picture"


def test_every_answer_that_was_cut_off_is_seen() -> None:
    whole = b"--b-1\r\n" + HEAD + b"picture\r\n--b-1--"
    for end in range(len(whole)):
        with pytest.raises(CutOffError):
            taken(whole[:end])


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        ("text/html", b"<html>", "it is text/html, not multipart/related"),
        ("", b"", "not multipart/related"),
        ("multipart/related", b"--b-1", "its boundary None is none"),
        ("multipart/related; boundary=" + 71 * "b", b"", "its boundary b+ is none"),
        (KIND, b"--b-1--\r\n", "it holds no part"),
        (KIND, b"--b-1\r\nContent-Type: text/html\r\n\r\nx\r\n--b-1--", "its part is text/html, not application/dicom"),
        (KIND, b"--b-1\r\n" + HEAD + b"x\r\n--b-1\r\n" + HEAD + b"y\r\n--b-1--", "it holds several parts"),
        (KIND, b"--b-1\r\n" + b"X: y\r\n" * 10_000, "no part begins in its first 16384 bytes"),
        (KIND, b"--b-1\r\n" + HEAD + b"x\r\n--b-1--" + bytes(20_000), "more than 16384 bytes behind its end"),
    ],
)
def test_what_holds_no_single_instance_is_refused(kind: str, body: bytes, text: str) -> None:
    with pytest.raises(DataError, match=text):
        taken(body, kind)
