"""Which instances of a server are meant: by the query, by each row of the table, by their place in their series."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mple.data.dicomweb.key_table import KEYS, KeyRow, is_uid
from mple.data.dicomweb.query import Attribute, query_attributes, refuse_other, texts
from mple.data.dicomweb.source import DicomWebSource, Instances
from mple.data.images import DataError
from mple.data.limits import MOST_IMAGES
from mple.data.names import shown
from mple.data.tables import is_plain_cell

Pages = Callable[[Mapping[str, str], Sequence[str]], Iterator[Sequence[Mapping[str, Any]]]]
"""Searches with filters, for attributes; pages of instances in DICOM's JSON."""

WANTED = (*KEYS, "InstanceNumber")
"""Attributes that a search asks for, beside those of the query."""
_TAGS = {
    "StudyInstanceUID": "0020000D",
    "SeriesInstanceUID": "0020000E",
    "SOPInstanceUID": "00080018",
    "PatientID": "00100020",
    "AccessionNumber": "00080050",
    "InstanceNumber": "00200013",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Instance:
    """An instance that is meant."""

    keys: Mapping[str, str]
    """All of `KEYS`; patient and accession number may be empty."""
    number: int | None = None
    """InstanceNumber, where it has one."""

    @property
    def uids(self) -> tuple[str, str, str]:
        """Of study, series and instance."""
        return self.keys["StudyInstanceUID"], self.keys["SeriesInstanceUID"], self.keys["SOPInstanceUID"]


@dataclass(frozen=True, slots=True)
class Chosen:
    """An instance, and the place in the table of the row that names it; None without a table."""

    instance: Instance
    row: int | None


def choose(
    source: DicomWebSource,
    rows: Sequence[KeyRow] | None,
    pages: Pages,
    told: Callable[[int, int], None],
    *,
    may_be_gone: bool = False,
) -> list[Chosen]:
    """The instances, in the order of the rows and, within one, by series, InstanceNumber and UID.

    Raises DataError: a row finds nothing, unless that `may_be_gone`; two rows name one instance, a series lacks a
    wanted number, or the server answered with something else than what was asked for.
    """
    attributes = query_attributes(source.query)
    query = {one.name: one.wanted for one in attributes}
    wanted = (*WANTED, *query)

    def search(filters: Mapping[str, str], row: KeyRow | None = None) -> list[Instance]:
        return _found(pages(filters, wanted), attributes, source.url, row)

    where = f"query = {list(source.query)}"
    if rows is None:
        told(0, 1)
        found = _taken(search(query), source, where)
        return [Chosen(one, None) for one in _some(found, where, source, may_be_gone)]
    answers: dict[tuple[tuple[str, str], ...], list[Instance]] = {}
    asked = [tuple(_filters(row).items()) for row in rows]
    searches = len(set(asked))
    owners: dict[tuple[str, str, str], KeyRow] = {}
    chosen: list[Chosen] = []
    for place, (row, key) in enumerate(zip(rows, asked, strict=True)):
        if key not in answers:
            told(len(answers), searches)
            for name, value in key:
                if query.get(name, value) != value:
                    raise DataError(f"{row.where}: {name} is another one than query asks for")
            answers[key] = search({**query, **dict(key)}, row)
        uid = row.keys.get("SOPInstanceUID")
        matching = [one for one in answers[key] if uid in (None, one.keys["SOPInstanceUID"])]
        taken = matching if uid is not None else _taken(matching, source, row.where)
        for one in _some(taken, row.where, source, may_be_gone):
            first = owners.setdefault(one.uids, row)
            if first is not row:
                raise DataError(
                    f"{row.where} and {first.where.rpartition(', ')[2]} name the same instance; take one away"
                )
            chosen.append(Chosen(one, place))
    return chosen


def _filters(row: KeyRow) -> dict[str, str]:
    """What is searched for a row: the whole series or study, where it says which, so that its rows share a search."""
    is_placed = "StudyInstanceUID" in row.keys or "SeriesInstanceUID" in row.keys
    return {name: row.keys[name] for name in KEYS if name in row.keys and not (is_placed and name == "SOPInstanceUID")}


def _found(
    pages: Iterator[Sequence[Mapping[str, Any]]], attributes: Sequence[Attribute], url: str, row: KeyRow | None
) -> list[Instance]:
    """What the pages of a search hold, in order, once each of it is seen to be what was asked for."""
    found: dict[tuple[str, str, str], Instance] = {}
    for page in pages:
        for raw in page:
            one = _instance(raw, url)
            if row is not None:
                _refuse_other_keys(one, row, url)
            refuse_other(raw, attributes, url)
            if one.uids in found:
                raise DataError(
                    f"{url} sent one instance twice over the pages of a search: its pages can't be told apart, or it "
                    "changed meanwhile; try again"
                )
            found[one.uids] = one
            if len(found) > MOST_IMAGES:
                raise DataError(f"{url} has more than {MOST_IMAGES} instances for a search; narrow it by query")
    return sorted(found.values(), key=_place)


def _refuse_other_keys(one: Instance, row: KeyRow, url: str) -> None:
    """The label of a row must not go to what it does not name."""
    for name in _filters(row):
        if not one.keys[name]:
            raise DataError(
                f"{row.where}: {url} does not tell the {name} of what it has found, so that nobody knows whether it is "
                "that; name the studies by StudyInstanceUID"
            )
        if one.keys[name] != row.keys[name]:
            raise DataError(f"{row.where}: {url} answered with an instance of another {name}")


def _instance(raw: Mapping[str, Any], url: str) -> Instance:
    keys = {name: next(filter(is_plain_cell, texts(raw, _TAGS[name])), "") for name in KEYS}
    for name in KEYS[:3]:
        if not is_uid(keys[name]):
            raise DataError(
                f"{url} answered with {name} {shown(repr(keys[name]))}, which is no UID; nothing is fetched by it"
            )
    number = next(iter(texts(raw, _TAGS["InstanceNumber"])), "")
    is_number = number.lstrip("+-").isdecimal() and len(number) <= 12
    return Instance(keys=keys, number=int(number) if is_number else None)


def _place(one: Instance) -> tuple[str, str, float, str]:
    study, series, uid = one.uids
    return study, series, float("inf") if one.number is None else one.number, uid


def _taken(found: Sequence[Instance], source: DicomWebSource, where: str) -> list[Instance]:
    """Of each series the instances that the settings choose; `found` is in order."""
    if source.instances is Instances.ALL:
        return list(found)
    by_series: dict[tuple[str, str], list[Instance]] = {}
    for one in found:
        by_series.setdefault(one.uids[:2], []).append(one)
    if source.instances is Instances.MIDDLE:
        return [series[len(series) // 2] for series in by_series.values()]
    taken = []
    for series in by_series.values():
        for number in source.instance_numbers:
            having = [one for one in series if one.number == number]
            if not having:
                raise DataError(
                    f"{where}: a series of {len(series)} instances has none with the InstanceNumber {number}; narrow "
                    "query to series that do, or choose others by instance_numbers"
                )
            taken += having
    return sorted(taken, key=_place)


def _some(found: list[Instance], where: str, source: DicomWebSource, may_be_gone: bool) -> list[Instance]:
    if not found and not may_be_gone:
        beside = f" and matches query = {list(source.query)}" if source.query and not where.startswith("query") else ""
        raise DataError(f"{where}: {source.url} has no instance that this names{beside}")
    return found
