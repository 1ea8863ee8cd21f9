"""From a PACS into the cache: what is chosen is asked for once, then what is missing is fetched."""

import functools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from mple.data.dicom_files.reader import DicomFiles
from mple.data.dicomweb.cache import Cache, Choice, opened
from mple.data.dicomweb.key_table import KeyRow, read_key_table
from mple.data.dicomweb.search import Chosen, Instance, choose
from mple.data.dicomweb.source import DicomWebSource
from mple.data.images import DataError
from mple.data.settings import Told, Wait
from mple.disk.whole_files import file_sha256
from mple.extras import missing_extra

if TYPE_CHECKING:
    from mple.data.dicomweb.server import PacsServer

_PART = "fetching.part"
_TURN_S = 0.2


def fetch(source: DicomWebSource, told: Told, wait: Wait) -> tuple[int, Path | None]:
    """Bring what a source chooses into its cache; how many instances that is, and their table of labels, if any.

    Guarantees: what was fetched is not fetched again; without anything missing the server is not asked; two processes
    on one cache take turns; a file is kept only if it is the instance that was asked for, and a picture.

    Raises DataError: see `DicomWebSource.fetch`.
    """
    rows = None if source.label_file is None else read_key_table(source.label_file)
    with _opened(source, told, wait) as cache:
        fetching = _Fetching(source, cache, told, wait)
        chosen = fetching.chosen(rows)
        missing = fetching.missing(chosen)
        for place, one in enumerate(missing):
            wait(0.0)
            fetching.told("fetching", len(chosen) - len(missing) + place, len(chosen))
            fetching.fetch(one)
        fetching.told("fetched", len(chosen), len(chosen))
        return len(chosen), None if rows is None else cache.label_table(rows, chosen)


def changes(source: DicomWebSource, told: Told, wait: Wait) -> tuple[str, ...]:
    """Ask the server for everything again and compare it with the cache, which stays as it is; what differs, as
    sentences. Raises DataError: as `fetch`, or nothing has been fetched yet."""
    rows = None if source.label_file is None else read_key_table(source.label_file)
    with _opened(source, told, wait) as cache:
        fetching = _Fetching(source, cache, told, wait)
        kept = cache.chosen(Choice.of(source, rows))
        if kept is None or not all(cache.digest(one.instance) for one in kept):
            raise DataError(f"{source.path} does not hold everything yet; fetch it first")
        before = {one.instance.uids for one in kept}
        now = {one.instance.uids: one.instance for one in fetching.search(rows, may_be_gone=True)}
        changed = 0
        for place, (uids, one) in enumerate(now.items()):
            wait(0.0)
            fetching.told("comparing", place, len(now))
            if uids in before:
                part = fetching.retrieve(one)
                changed += file_sha256(part).hex() != cache.digest(one)
                part.unlink()
        counts = (
            (changed, "have changed at the server since they were fetched"),
            (len(now.keys() - before), "are new at the server and not in the cache"),
            (len(before - now.keys()), "are in the cache and no more at the server"),
        )
        return tuple(f"{count} of {len(kept)} instances {what}" for count, what in counts if count)


def absent(source: DicomWebSource) -> str:
    """See `DataSource.absent`."""
    rows = None if source.label_file is None else read_key_table(source.label_file)
    cache = Cache(source.path) if source.path.is_dir() else None
    chosen = cache.chosen(Choice.of(source, rows)) if cache else None
    if cache is None or chosen is None:
        return f"{source.url} has not been asked for what [data] chooses"
    missing = sum(not cache.has(one.instance) for one in chosen)
    return f"{missing} of {len(chosen)} instances are not in {source.path}, or damaged there" if missing else ""


def _opened(source: DicomWebSource, told: Told, wait: Wait) -> AbstractContextManager[Cache]:
    def turn() -> None:
        told("waiting for another process that fetches into the same folder", 0, 1)
        wait(_TURN_S)

    return opened(source.path, turn)


class _Fetching:
    """One source's way into its open cache."""

    def __init__(self, source: DicomWebSource, cache: Cache, told: Told, wait: Wait) -> None:
        self._source, self._cache, self._wait = source, cache, wait
        self._listener, self._at = told, (0, 1)
        self._reader = DicomFiles(source.window, source.most_bytes)

    def told(self, text: str, done: int, total: int) -> None:
        """Tell what is done now."""
        self._at = (done, total)
        self._listener(text, done, total)

    @functools.cached_property
    def _server(self) -> "PacsServer":
        try:
            from mple.data.dicomweb.server import PacsServer
        except ImportError:
            raise DataError(missing_extra("fetching from a PACS", "dicomweb-client", "dicomweb")) from None
        return PacsServer(self._source, lambda text: self.told(text, *self._at), self._wait)

    def chosen(self, rows: Sequence[KeyRow] | None) -> list[Chosen]:
        """What is chosen, asked of the server where that was not done before."""
        choice = Choice.of(self._source, rows)
        known = self._cache.chosen(choice)
        if known is None:
            known = self.search(rows)
            self._cache.note_chosen(choice, known)
        return known

    def search(self, rows: Sequence[KeyRow] | None, *, may_be_gone: bool = False) -> list[Chosen]:
        """What is chosen, asked of the server."""

        def searching(done: int, total: int) -> None:
            self._wait(0.0)
            self.told("searching", done, total)

        return choose(self._source, rows, self._server.search, searching, may_be_gone=may_be_gone)

    def missing(self, chosen: Sequence[Chosen]) -> list[Instance]:
        """Those that the cache does not have."""
        absent = []
        for place, one in enumerate(chosen):
            self._wait(0.0)
            self.told("checking what is there", place, len(chosen))
            if not self._cache.has(one.instance):
                absent.append(one.instance)
        return absent

    def fetch(self, one: Instance) -> None:
        """Fetch one instance into the cache."""
        part, noted = self.retrieve(one), self._cache.digest(one)
        if noted is not None and file_sha256(part).hex() != noted:
            raise DataError(
                f"{self._cache.path(one)} is lost or damaged, and {self._source.url} has the instance with other bytes "
                f"than it had; to take all as it is now, remove {self._cache.folder} and fetch again"
            )
        self._cache.keep(one, part)

    def retrieve(self, one: Instance) -> Path:
        """A file with one instance as the server has it, once it is seen to be that and a picture."""
        part = self._cache.folder / _PART
        self._server.retrieve(one.uids, part)
        try:
            found = self._reader.uids(part)
        except DataError as fault:
            said = str(fault).partition("can't be read: ")[2] or str(fault)
            raise DataError(
                f"instance {one.uids[2]} of {self._source.url} is no picture that can be used: {said}; narrow query, "
                "as by Modality or SOPClassUID, or name instances in the table"
            ) from None
        if found != one.uids:
            raise DataError(f"{self._source.url} sent another instance than {one.uids[2]}, which was asked for")
        return part
