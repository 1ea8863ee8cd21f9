"""DICOM instances for tests of a PACS, and a small server that answers with them as a test says."""

from __future__ import annotations

import csv
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from pydicom import dcmread
from pydicom.uid import generate_uid

from tests.support.dicom_files import write_dicom

BOUNDARY = "a-boundary"
MULTIPART = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
JSON = "application/dicom+json"


@dataclass(frozen=True, kw_only=True)
class Made:
    """An instance that a test has made."""

    path: Path
    study: str
    series: str
    uid: str
    patient: str
    accession: str
    number: int

    @property
    def keys(self) -> dict[str, str]:
        """Its attributes by DICOM's words."""
        return {
            "StudyInstanceUID": self.study,
            "SeriesInstanceUID": self.series,
            "SOPInstanceUID": self.uid,
            "PatientID": self.patient,
            "AccessionNumber": self.accession,
        }


def make_instances(
    folder: Path, studies: int, *, series: int = 1, per_series: int = 2, side: int = 8, **tags: Any
) -> list[Made]:
    """Grey pictures of noise with fresh UIDs: in each study, of a patient of its own, so many series of so many. Every
    second series is of modality CR, the others DX; the n-th study is of the n-th day of 2024."""
    made = []
    generator = np.random.default_rng(studies)
    for s in range(studies):
        study = str(generate_uid())
        for t in range(series):
            uid = str(generate_uid())
            for number in range(1, per_series + 1):
                pixels = generator.integers(0, 256, (side, side), dtype=np.uint8)
                path = folder / f"{len(made):04d}.dcm"
                about = {
                    "StudyDate": f"2024{s // 28 + 1:02d}{s % 28 + 1:02d}",
                    "Modality": "CR" if t % 2 else "DX",
                    **tags,
                }
                write_dicom(
                    path, pixels, StudyInstanceUID=study, SeriesInstanceUID=uid, PatientID=f"P{s}",
                    AccessionNumber=f"A{s}", InstanceNumber=number, StudyDescription=f"CHEST {s}", **about,
                )  # fmt: skip
                sop = str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)
                made.append(
                    Made(path=path, study=study, series=uid, uid=sop, patient=f"P{s}", accession=f"A{s}", number=number)
                )
    return made


def write_table(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    """A CSV table with these rows, their keys as header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def dicom_json(made: Made, **other: Any) -> dict[str, Any]:
    """An instance as QIDO-RS answers, single attributes replaced."""
    values: dict[str, Any] = {**made.keys, "InstanceNumber": made.number, **other}
    tags = ("0020000D", "0020000E", "00080018", "00100020", "00080050", "00200013")
    return {tag: {"vr": "UI", "Value": [value]} for tag, value in zip(tags, values.values(), strict=True)}


def multipart(content: bytes, *, head: str = "Content-Type: application/dicom\r\n", end: str = "--\r\n") -> bytes:
    """An answer of WADO-RS with one part."""
    return f"--{BOUNDARY}\r\n{head}\r\n".encode() + content + f"\r\n--{BOUNDARY}{end}".encode()


@dataclass
class Answer:
    """Of the small server."""

    content: bytes = b""
    kind: str = JSON
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    """What Content-Length says, where that is a lie; the connection ends behind the content."""


class SmallPacs:
    """Serves instances as a PACS would. `odd` may answer first; `asked` are the paths that were asked for."""

    def __init__(self, made: Sequence[Made]) -> None:
        self.made, self.asked, self.credentials = list(made), list[str](), list[str | None]()
        self.odd: Callable[[str, dict[str, str]], Answer | None] = lambda path, query: None
        self.url = ""
        self.pause_s = 0.0
        """Between one byte of an answer and the next; 0 sends all at once."""

    def answer(self, path: str, query: dict[str, str]) -> Answer:
        """As a PACS without faults."""
        parts = path.strip("/").split("/")[1:]
        named = dict(zip(parts[::2], parts[1::2], strict=False))
        if len(parts) == 6:
            found = [one for one in self.made if one.uid == parts[5] and one.series == parts[3]]
            return Answer(multipart(found[0].path.read_bytes()), MULTIPART) if found else Answer(status=404)
        filters = {name: value for name, value in query.items() if name not in ("limit", "offset", "includefield")}
        filters |= {"StudyInstanceUID": named["studies"]} if "studies" in named else {}
        filters |= {"SeriesInstanceUID": named["series"]} if "series" in named else {}
        matching = [
            one for one in self.made if all(one.keys.get(name, value) == value for name, value in filters.items())
        ]
        first = int(query.get("offset", 0))
        page = matching[first : first + int(query.get("limit", 1000))]
        return Answer(json.dumps(list(map(dicom_json, page))).encode())


@contextmanager
def serving(pacs: SmallPacs, tls: ssl.SSLContext | None = None) -> Iterator[SmallPacs]:
    """A server on this machine, at `pacs.url`, that is gone at the end."""

    class OneRequest(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            place = urlsplit(self.path)
            query = dict(parse_qsl(place.query))
            pacs.asked.append(place.path)
            pacs.credentials.append(self.headers.get("Authorization"))
            answer = pacs.odd(place.path, query) or pacs.answer(place.path, query)
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.content) if answer.length is None else answer.length))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            for part in [bytes([one]) for one in answer.content] if pacs.pause_s else [answer.content]:
                self.wfile.write(part)
                time.sleep(pacs.pause_s)
            self.close_connection = answer.length is not None

        def log_message(self, *_: object) -> None:
            """Nothing is logged."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Whoever asked has gone."""

    server = Server(("127.0.0.1", 0), OneRequest)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    pacs.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_address[1]}/dicom-web"
    try:
        yield pacs
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
