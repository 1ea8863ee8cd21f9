"""Calls to a PACS: searches (QIDO-RS) by dicomweb-client, instances (WADO-RS) as the bytes that the server keeps.

Imported when something is to be fetched: it needs the extra `dicomweb`. Every answer passes `_Answers`: its status,
type and encoding are judged there and its bytes counted, before anybody parses it. Texts name the server, never what
was asked for: searches hold names of patients.
"""

import base64
import logging
import os
import random
import ssl
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import requests
from dicomweb_client import URI, DICOMwebClient
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.util.ssl_ import create_urllib3_context

from mple.data.dicomweb.key_table import is_uid
from mple.data.dicomweb.multipart import CutOffError, instance_bytes
from mple.data.dicomweb.source import DicomWebSource
from mple.data.images import DataError
from mple.data.names import shown
from mple.data.settings import Wait
from mple.disk.private import OTHERS

T = TypeVar("T")
_PAGE = 1000
"""Instances of one search's page."""
_MOST_PAGE_BYTES = 64 * 1024**2
_MOST_INSTANCE_BYTES = 1024**3
_MOST_SECRET = 16 * 1024
_CHUNK = 1024**2
_SLOWEST = 1024
"""Bytes a second that an answer must come in, on average."""
_BUSY = {408, 425, 429, 500, 502, 503, 504}
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.2, 20.0
_LONGEST_LEAP_S = 120.0


class _AwayError(Exception):
    """The server can't be reached or is too busy; another attempt may succeed."""


class PacsServer:
    """One server, tried again while it is away, for `patience_s` without success."""

    def __init__(self, source: DicomWebSource, told: Callable[[str], None], wait: Wait) -> None:
        """`told` hears why the server is tried again. Raises DataError: a credential or certificate can't be used."""
        self._url, self._patience_s, self._told, self._wait = source.url.rstrip("/"), source.patience_s, told, wait
        self._session, self._silence_s = _session(source, wait), source.silence_s
        for library in ("dicomweb_client", "retrying"):  # they log what is searched for
            logging.getLogger(library).setLevel(logging.CRITICAL)
        self._client = DICOMwebClient(self._url, session=self._session, timeout=source.silence_s)
        self._client.set_http_retry_params(retry=False)

    def search(self, filters: Mapping[str, str], wanted: Sequence[str]) -> Iterator[Sequence[Mapping[str, Any]]]:
        """Pages of the instances that match all filters, as DICOM's JSON has them, each with the attributes `wanted`.

        Raises DataError: the server refuses, stays away, or answers something else.
        """
        other = dict(filters)
        study = series = None
        if is_uid(other.get("StudyInstanceUID", "")):  # a list of them is a filter as any other
            study = other.pop("StudyInstanceUID")
            if is_uid(other.get("SeriesInstanceUID", "")):
                series = other.pop("SeriesInstanceUID")
        offset = 0
        while True:

            def page(offset: int = offset) -> list[dict[str, dict[Any, Any]]]:
                return self._client.search_for_instances(
                    study_instance_uid=study,
                    series_instance_uid=series,
                    fields=list(wanted),
                    search_filters=other,
                    limit=_PAGE,
                    offset=offset,
                )

            found = self._patiently(page)
            if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
                raise DataError(f"{self._url} answered a search with no list of instances")
            if not found:
                return
            yield found
            offset += len(found)

    def retrieve(self, uids: tuple[str, str, str], target: Path) -> None:
        """The file of one instance, of study, series and instance, as the server keeps it, written to a path.

        Raises DataError: as `search`, or the answer is larger than any picture.
        """
        url = str(URI(self._url, *uids))
        accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'

        def attempt() -> None:
            with (
                self._session.get(url, headers={"Accept": accept}, stream=True, timeout=self._silence_s) as answer,
                open(target, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file,
            ):
                for piece in instance_bytes(answer.headers.get("Content-Type", ""), answer.iter_content(_CHUNK)):
                    file.write(piece)

        try:
            self._patiently(attempt)
        except DataError as fault:
            if self._url in str(fault):
                raise
            raise DataError(f"{self._url} answered with no instance: {fault}") from None

    def _patiently(self, attempt: Callable[[], T]) -> T:
        tries, spent_s, seen_s = 0, 0.0, 0.0
        while True:
            try:
                return attempt()
            except (_AwayError, CutOffError, requests.RequestException, RecursionError, ValueError) as fault:
                why = _why(fault, self._url)
            now_s = time.monotonic()
            spent_s += min(now_s - seen_s, _LONGEST_LEAP_S) if tries else 0.0
            seen_s, left_s = now_s, self._patience_s - spent_s
            if left_s <= 0:
                raise DataError(
                    f"gave up on {self._url} after {self._patience_s:g} s: {why}; what has been fetched is kept: "
                    "begin again when the server is there"
                )
            delay_s = min(random.uniform(0, min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2 ** min(tries, 10))), left_s)  # noqa: S311
            tries += 1
            self._told(f"{self._url}: {why}; next try in {delay_s:.1f} s")
            self._wait(delay_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Limits:
    """What every answer of a server is held to."""

    url: str
    most_bytes: int
    """Of an instance."""
    credential: Path | None
    silence_s: float
    wait: Wait


class _Answers(HTTPAdapter):
    """The one way in: every answer is judged, and its bytes are counted."""

    def __init__(self, limits: _Limits) -> None:
        super().__init__()
        self._limits = limits

    def init_poolmanager(self, *places: Any, **how: Any) -> None:
        """With the same rules for certificates on every Python: 3.13 refuses what many a hospital's own authority
        leaves out."""
        context = create_urllib3_context()
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        super().init_poolmanager(*places, ssl_context=context, **how)

    def send(self, request: requests.PreparedRequest, stream: bool = False, **how: Any) -> requests.Response:  # type: ignore[override]
        place, mark, query = (request.url or "").partition("?")
        # Of two right spellings the one that more servers read: Orthanc 1.10 decodes no escapes, others no plus.
        request.url = place + mark + query.replace("+", "%20").replace("%2A", "*")
        answer = super().send(request, stream=stream, **how)
        try:
            self._judge(answer.status_code, answer.headers, is_search=not stream)
        except BaseException:
            answer.close()
            raise
        answer.raw = _Counted(answer.raw, self._limits.most_bytes if stream else _MOST_PAGE_BYTES, self._limits)
        return answer

    def _judge(self, status: int, headers: Mapping[str, str], *, is_search: bool) -> None:
        url, credential = self._limits.url, self._limits.credential
        if status in _BUSY:
            raise _AwayError(f"it answered {status}")
        if status in (401, 403):
            held = f"refuses what {credential} holds" if credential else "asks who is there"
            raise DataError(f"{url} {held} ({status}); set password_file or token_file to what it knows")
        if 300 <= status < 400:
            raise DataError(f"{url} sends one elsewhere ({status}), which is not followed; name that address as url")
        if status == 400:
            raise DataError(f"{url} does not understand the search (400); is each value of query as DICOM writes it?")
        if status == 404:
            raise DataError(f"{url} has no such instance or no such service (404); is url right to its end?")
        if status not in (200, 204, 206):
            raise DataError(f"{url} answered {status}; does its log say why?")
        if headers.get("Content-Encoding", "identity").lower() not in ("identity", ""):
            raise DataError(f"{url} answered compressed, {shown(headers['Content-Encoding'])}, which was not asked for")
        kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if is_search and status == 200 and kind not in ("application/dicom+json", "application/json"):
            raise DataError(f"{url} answered a search with {shown(kind or 'no type')}, not application/dicom+json")


class _Counted:
    """The body of an answer, of which no more than so many bytes are read, and not for ever."""

    def __init__(self, raw: Any, most_bytes: int, limits: "_Limits") -> None:
        self._raw, self._most_bytes, self._limits = raw, most_bytes, limits

    def stream(self, size: int, decode_content: bool = False) -> Iterator[bytes]:
        """Pieces of at most `size` bytes, as they come. Raises DataError: there are too many; _AwayError: they come
        too slowly; Exception: as `wait` does."""
        began_s, taken = time.monotonic(), 0
        while piece := self._raw.read1(size, decode_content=decode_content):
            self._limits.wait(0.0)
            taken += len(piece)
            if taken > self._most_bytes:
                raise DataError(f"{self._limits.url} sent more than {self._most_bytes} bytes in one answer")
            if time.monotonic() - began_s > self._limits.silence_s + taken / _SLOWEST:
                raise _AwayError(f"it sends less than {_SLOWEST} bytes a second")
            yield piece

    def close(self) -> None:
        """End the connection where bytes are left."""
        self._raw.close()

    def release_conn(self) -> None:
        """Hand the connection back."""
        self._raw.release_conn()


class _Credential(AuthBase):
    """Reads its file for each request, so that a token may be renewed meanwhile."""

    def __init__(self, word: str, path: Path) -> None:
        self._word, self._path = word, path
        self._header()

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._header()
        return request

    def _header(self) -> str:
        secret = read_secret(self._path)
        if self._word == "Basic":
            if ":" not in secret:
                raise DataError(f"{self._path} holds no USER:PASSWORD in its first line")
            secret = base64.b64encode(secret.encode()).decode()
        elif not secret.isascii() or " " in secret:
            raise DataError(f"{self._path} holds no bearer token in its first line")
        return f"{self._word} {secret}"


def read_secret(path: Path) -> str:
    """The first line of a file that its owner alone can read.

    Raises DataError: it is missing, empty, no text, or open to others.
    """
    _refuse_open(path)
    try:
        with path.open(encoding="utf-8") as lines:
            first = lines.readline(_MOST_SECRET).strip("\r\n")
    except (OSError, UnicodeDecodeError) as fault:
        raise DataError(f"{path} can't be read: {getattr(fault, 'strerror', None) or 'it is not UTF-8'}") from None
    if not first or not first.isprintable():
        raise DataError(f"{path} holds nothing that can be read in its first line")
    return first


def _refuse_open(path: Path) -> None:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as fault:
        raise DataError(f"{path} can't be read: {fault.strerror}") from None
    if mode & OTHERS:
        raise DataError(
            f"{path} has mode {mode:04o} and is open to others; have the server's password, token or key changed if "
            f"others use this machine, and run: chmod go= {path}"
        )


def _session(source: DicomWebSource, wait: Wait) -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # no password of ~/.netrc, no proxy and no CA that a variable names
    session.headers["Accept-Encoding"] = "identity"
    paths = ssl.get_default_verify_paths()
    trusted = source.ca_file or paths.cafile or paths.capath
    if source.ca_file is not None and not source.ca_file.is_file():
        raise DataError(f"no certificates at {source.ca_file}, which ca_file names")
    session.verify = str(trusted) if trusted else True
    if source.client_certificate is not None and source.client_key is not None:
        _refuse_open(source.client_key)
        session.cert = (str(source.client_certificate), str(source.client_key))
    for word, path in (("Basic", source.password_file), ("Bearer", source.token_file)):
        if path is not None:
            session.auth = _Credential(word, path)
    limits = _Limits(
        url=source.url.rstrip("/"),
        most_bytes=min(_MOST_INSTANCE_BYTES, source.most_bytes),
        credential=source.password_file or source.token_file,
        silence_s=source.silence_s,
        wait=wait,
    )
    answers = _Answers(limits)
    session.mount("https://", answers)
    session.mount("http://", answers)
    return session


def _why(fault: Exception, url: str) -> str:
    """What stands in the way of an attempt, without what was asked for; DataError where no other attempt helps."""
    if isinstance(fault, DataError):
        raise fault
    chain = list(_causes(fault))
    for one in chain:
        if isinstance(one, ssl.SSLCertVerificationError):
            raise DataError(
                f"{url} can't prove who it is: {shown(one.verify_message)}; name its authority's certificates as "
                "ca_file"
            ) from None
    if isinstance(fault, requests.exceptions.JSONDecodeError | RecursionError):
        raise DataError(f"{url} answered a search with no JSON") from None
    if isinstance(fault, _AwayError | CutOffError):
        return str(fault)
    if isinstance(fault, requests.Timeout):
        return "it does not answer"
    if not isinstance(fault, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
        raise DataError(f"{url} can't be asked: {type(fault).__name__}") from None
    said = next((one.strerror for one in reversed(chain) if isinstance(one, OSError) and one.strerror), None)
    return shown(said or "it breaks off its answers")


def _causes(fault: BaseException | None) -> Iterator[BaseException]:
    """A fault and what it came of, as libraries keep it: as context, among its arguments, as reason."""
    seen: list[BaseException] = []
    waiting = [fault]
    while waiting and len(seen) < 20:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and one not in seen:
            seen.append(one)
            waiting += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
    return iter(seen)
