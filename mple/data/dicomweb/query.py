"""What a query asks for, and whether an answer is that: servers pass over attributes that they do not search by.

An attribute is looked up in pydicom's dictionary, so that a word that is misspelt finds an error and not everything.
"""

import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mple.data.images import DataError
from mple.data.names import shown

_MOST_TEXT = 1024
_TAG = re.compile("[0-9A-Fa-f]{8}")
_NUMBERS = ("DS", "IS", "FL", "FD", "SL", "SS", "UL", "US")


@dataclass(frozen=True, kw_only=True, slots=True)
class Attribute:
    """An attribute that instances are searched by."""

    name: str
    """DICOM's word, or eight hexadecimal digits."""
    tag: str
    """As DICOM's JSON has it."""
    vr: str
    """How its values are written, in DICOM's two letters."""
    wanted: str


def query_attributes(query: Sequence[str]) -> list[Attribute]:
    """The attributes of a query's texts, "Modality=DX". Raises DataError: there is no such attribute."""
    dictionary = importlib.import_module("pydicom.datadict")
    found = []
    for text in query:
        name, _, wanted = text.partition("=")
        number = int(name, 16) if _TAG.fullmatch(name) else dictionary.tag_for_keyword(name)
        if number is None or not dictionary.dictionary_has_tag(number):
            raise DataError(
                f"query has {name}, which is no attribute of DICOM's; servers would pass over it and send everything"
            )
        vr = str(dictionary.dictionary_VR(number))
        found.append(Attribute(name=name, tag=f"{number:08X}", vr=vr, wanted=wanted.strip()))
    return found


def refuse_other(raw: Mapping[str, Any], attributes: Sequence[Attribute], url: str) -> None:
    """Refuse an instance, in DICOM's JSON, that is not what was asked for. Ranges of times are not looked at.

    Raises DataError: an attribute has another value, or the server does not tell it.
    """
    for one in attributes:
        values = texts(raw, one.tag)
        if not values:
            raise DataError(
                f"{url} does not tell the {one.name} of what it has found, and so may not search by it; take it out of "
                "query and name the studies in the table"
            )
        if not any(_matches(one, value) for value in values):
            raise DataError(
                f"{url} answered query = {one.name}={shown(one.wanted)} with an instance of {one.name} "
                f"{shown(values[0])}: it does not search by that; take it out of query and name the studies in the "
                "table"
            )


def texts(raw: Mapping[str, Any], tag: str) -> list[str]:
    """Values of an attribute in DICOM's JSON, without blanks around; those that are no texts, numbers or names, are
    empty or absurdly long are left out."""
    attribute = raw.get(tag)
    values = attribute.get("Value") if isinstance(attribute, Mapping) else None
    found = []
    for value in values if isinstance(values, list) else ():
        plain = value.get("Alphabetic") if isinstance(value, Mapping) else value
        if isinstance(plain, float) and plain.is_integer():
            plain = int(plain)
        if isinstance(plain, str | int | float) and not isinstance(plain, bool) and 0 < len(str(plain)) <= _MOST_TEXT:
            found.append(str(plain).strip(" \0"))
    return [text for text in found if text]


def _matches(one: Attribute, value: str) -> bool:
    wanted = one.wanted
    if one.vr in ("TM", "DT") and "-" in wanted:
        return True
    if one.vr == "DA" and "-" in wanted:
        first, _, last = wanted.partition("-")
        return first <= value <= (last or "99999999")
    if one.vr == "UI":
        return value in re.split(r"[,\\]", wanted)
    if one.vr in _NUMBERS:
        try:
            return float(value) == float(wanted)
        except ValueError:
            return False
    pattern = re.escape(wanted.casefold()).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(pattern, value.casefold(), re.DOTALL) is not None
