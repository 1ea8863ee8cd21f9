"""A PACS that answers with something else than it was asked for, or is another; what it and the log are told."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("dicomweb_client")
from mple.data import DataError
from mple.pki import Authority
from tests.support.certificates import forge
from tests.support.pacs import (
    MULTIPART,
    Answer,
    Made,
    SmallPacs,
    dicom_json,
    make_instances,
    multipart,
    serving,
)
from tests.support.pacs_site import PacsSite, fetched_uids

FORGED = "1.2.3.4"


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> list[Made]:
    return make_instances(tmp_path_factory.mktemp("made"), 2)


@pytest.fixture
def site(tmp_path: Path, instances: list[Made]) -> Iterator[PacsSite]:
    with serving(SmallPacs(instances)) as pacs:
        yield PacsSite(tmp_path, pacs)


HOSTILE: dict[str, tuple[Callable[[Made], Answer], str]] = {
    "a path for a UID": (
        lambda made: Answer(json.dumps([dicom_json(made, SOPInstanceUID="../../../etc/passwd")]).encode()),
        r"answered with SOPInstanceUID '../../../etc/passwd', which is no UID",
    ),
    "a folder for a UID": (
        lambda made: Answer(json.dumps([dicom_json(made, SeriesInstanceUID="..")]).encode()),
        r"answered with SeriesInstanceUID '..', which is no UID",
    ),
    "another study": (
        lambda made: Answer(json.dumps([dicom_json(made, StudyInstanceUID=FORGED)]).encode()),
        "keys.csv, line 2: .* an instance of another StudyInstanceUID",
    ),
    "another patient": (
        lambda made: Answer(json.dumps([dicom_json(made, PatientID="P9")]).encode()),
        "keys.csv, line 2: .* an instance of another PatientID",
    ),
    "no patient": (
        lambda made: Answer(json.dumps([dicom_json(made, PatientID="")]).encode()),
        "keys.csv, line 2: .* does not tell the PatientID of what it has found",
    ),
    "the same for ever": (
        lambda made: Answer(json.dumps([dicom_json(made)]).encode()),
        "sent one instance twice over the pages of a search",
    ),
    "no list": (lambda _: Answer(b'{"a": 1}'), "which is no UID"),
    "no list of instances": (lambda _: Answer(b"[1, 2]"), "answered a search with no list of instances"),
    "a word": (lambda _: Answer(b'"a"'), "answered a search with no list of instances"),
    "no JSON": (lambda _: Answer(b"[{"), "answered a search with no JSON"),
    "deep JSON": (lambda _: Answer(b"[" * 30_000), "answered a search with no JSON"),
    "a page": (
        lambda _: Answer(b"<html>", "text/html"),
        "answered a search with text/html, not application/dicom.json",
    ),
    "a redirection": (
        lambda _: Answer(status=302, headers={"Location": "http://192.0.2.1/"}),
        r"sends one elsewhere \(302\), which is not followed",
    ),
    "compressed": (
        lambda _: Answer(b"[]", headers={"Content-Encoding": "gzip"}),
        "answered compressed, gzip, which was not asked for",
    ),
    "too much": (lambda _: Answer(b" " * 50_000), "sent more than 40000 bytes in one answer"),
    "nobody": (lambda _: Answer(status=401), r"asks who is there \(401\); set password_file or token_file"),
    "no service": (lambda _: Answer(status=404), r"no such service \(404\); is url right to its end"),
    "a search that it does not take": (lambda _: Answer(status=400), r"does not understand the search \(400\)"),
    "a teapot": (lambda _: Answer(status=418), "answered 418"),
    "nothing": (lambda _: Answer(b"[]"), "keys.csv, line 2: http://.* has no instance that this names"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_answers_to_a_search_are_refused(site: PacsSite, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mple.data.dicomweb.server._MOST_PAGE_BYTES", 40_000)
    answer, text = HOSTILE[kind]
    site.pacs.odd = lambda *_: answer(site.made[0])
    with pytest.raises(DataError, match=text):
        site.fetch()
    assert not site.fetched()


def test_hostile_answers_for_an_instance_are_refused(site: PacsSite) -> None:
    other = site.made[3].path.read_bytes()
    own = site.made[0].path.read_bytes()
    for answer, text in (
        (Answer(multipart(other), MULTIPART), f"sent another instance than {site.made[0].uid}, which was asked for"),
        (Answer(b"<html>", "text/html"), "answered with no instance: it is text/html, not multipart/related"),
        (Answer(multipart(b"\x7fELF" + bytes(500)), MULTIPART), "is no picture that can be used: it is no DICOM file"),
        (Answer(multipart(own[:400]), MULTIPART), "is no picture that can be used"),
        (Answer(multipart(bytes(20_000)), MULTIPART), "sent more than 9000 bytes in one answer"),
    ):
        site.pacs.odd = lambda path, _, answer=answer: answer if path.endswith(site.made[0].uid) else None  # type: ignore[misc]
        with pytest.raises(DataError, match=text):
            site.fetch(most_bytes=9000)
        assert not list((site.folder / "cache").rglob("*.dcm"))


def test_credentials_come_from_a_file_that_its_owner_alone_can_read(
    site: PacsSite, caplog: pytest.LogCaptureFixture
) -> None:
    secret = site.folder / "secret"
    secret.touch(0o600)
    secret.write_text("ann:pa:ss wörd\nmore\n", encoding="utf-8")
    caplog.set_level("DEBUG")
    site.fetch(password_file=secret)
    assert set(site.pacs.credentials) == {"Basic YW5uOnBhOnNzIHfDtnJk"}  # base64 of UTF-8
    assert "pa:ss" not in caplog.text and "YW5uOnBh" not in caplog.text
    secret.write_text("a.token==\n")
    site.pacs.credentials.clear()
    site.pacs.odd = lambda *_: Answer(status=403)
    with pytest.raises(DataError, match=rf"refuses what {secret} holds \(403\)") as fault:
        site.fetch(token_file=secret, query=("Modality=DX",))
    assert "a.token" not in str(fault.value)
    assert site.pacs.credentials == ["Bearer a.token=="]
    for mode, text, found in (
        (0o640, "x:y", "has mode 0640 and is open to others"),
        (0o600, "nobody", "holds no USER:PASSWORD in its first line"),
        (0o600, "", "holds nothing that can be read"),
    ):
        secret.write_text(text)
        secret.chmod(mode)
        with pytest.raises(DataError, match=found):
            site.fetch(password_file=secret, query=("Modality=DX",))


def test_names_of_patients_stay_out_of_logs(site: PacsSite, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    site.rows = site.labelled_by("PatientID")
    site.fetch()
    site.pacs.odd = lambda *_: Answer(status=500)
    with pytest.raises(DataError) as fault:
        site.fetch(query=("Modality=DX",))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and listens to nobody
        site.pacs.url = f"http://127.0.0.1:{taken.getsockname()[1]}/dicom-web"
        with pytest.raises(DataError, match=r"after 0\.3 s: Connection refused"):
            site.fetch()
    for text in (caplog.text, str(fault.value), *site.told):
        assert "P0" not in text and site.made[0].study not in text


def test_a_server_must_prove_who_it_is(tmp_path: Path, instances: list[Made], authority: Authority) -> None:
    server, node = (forge(authority, tmp_path / name, uris=(), hosts=("127.0.0.1",)) for name in ("server", "node"))
    stranger = forge(authority, tmp_path / "stranger", uris=(), hosts=("pacs.example",))
    asking = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(server.ca))
    asking.load_cert_chain(server.certificate, server.key)
    asking.verify_mode = ssl.CERT_REQUIRED
    asking.verify_flags &= ~ssl.VERIFY_X509_STRICT  # of Python 3.13 on; the forged certificates say little
    own = {"ca_file": server.ca, "client_certificate": node.certificate, "client_key": node.key}
    with serving(SmallPacs(instances), asking) as pacs:
        site = PacsSite(tmp_path, pacs)
        with pytest.raises(DataError, match=r"can't prove who it is: .*; name its authority's certificates as ca_file"):
            site.fetch(**(own | {"ca_file": None}))
        with pytest.raises(DataError, match="gave up on https://"):
            site.fetch(ca_file=server.ca)
        node.key.chmod(0o644)
        with pytest.raises(DataError, match=r"node\.key has mode 0644 and is open to others"):
            site.fetch(**own)
        node.key.chmod(0o600)
        assert fetched_uids(site.fetch(**own)) == [one.uid for one in instances]
    named = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    named.load_cert_chain(stranger.certificate, stranger.key)
    with (
        serving(SmallPacs(instances), named) as pacs,
        pytest.raises(DataError, match=r"can't prove who it is: IP address"),
    ):
        PacsSite(tmp_path, pacs).fetch(ca_file=server.ca)


def test_a_server_that_sends_a_byte_now_and_then_is_not_waited_for(site: PacsSite) -> None:
    site.pacs.pause_s = 0.02
    with pytest.raises(DataError, match=r"gave up on .* it sends less than 1024 bytes a second"):
        site.fetch(silence_s=0.1, patience_s=0)

    class StopError(Exception):
        """Somebody ends the process."""

    def stop(_seconds: float) -> None:
        if site.pacs.asked:
            raise StopError

    with pytest.raises(StopError):
        site.source().fetch(wait=stop)
