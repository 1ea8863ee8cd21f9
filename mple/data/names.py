"""Names that data bring along: of classes, of files and folders, of splits.

A name that a person can't tell from another one, or can't see, makes two classes of one. Such names are refused, and
the text shows the difference, since it prints them with escapes.
"""

import os
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from mple.data.images import DataError
from mple.data.limits import MOST_CLASSES, MOST_LABELS
from mple.printable import MOST_CLASS_NAME, printable

SPLIT_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
)
"""What each split may be called, in small letters or capitals."""
_SYSTEM_NAMES = frozenset(
    {
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "network trash folder", "temporary items"),
        *("$recycle.bin", "system volume information", "found.000", "$extend", "msocache"),
        *("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@tmp", "~snapshot"),
        *("lost+found", "lost.dir", "__pycache__"),
    }
)
"""In small letters: of desktops, of Windows, of network drives (Synology, QNAP, NetApp), of Unix and Android."""
_MISSING = frozenset(("na", "n/a", "nan", "null", "<na>", "?", "-", "#n/a", "#value!", "#ref!"))


def is_system_name(name: str) -> bool:
    """Whether a file or folder is hidden, or one of those that systems and network drives leave in any folder."""
    return name.startswith(".") or name.casefold() in _SYSTEM_NAMES


def split_named(name: str) -> str | None:
    """Which of train, val and test a folder or a table's cell names, if any."""
    return next((split for split, words in SPLIT_WORDS.items() if name.casefold() in words), None)


def says_nothing(text: str) -> bool:
    """Whether a cell is empty, or one of the marks that programs write for a value that is missing."""
    return not text or text.casefold() in _MISSING


def shown(text: object) -> str:
    """A text for a message, with escapes for what can't be printed."""
    return printable(text, 1000)


def check_name(name: str, where: str) -> None:
    """Refuse a name that a person can't read in full; the text begins with `where`.

    Raises DataError: it is empty or too long, begins or ends with a blank, or holds a character that can't be printed
    or decoded.
    """
    if not name.strip():
        raise DataError(f"{where}: the name {name!a} is empty; give it one")
    if name != name.strip():
        raise DataError(f"{where}: the name {name!a} begins or ends with a blank; rename it")
    if not name.isprintable() or printable(name) != name:
        raise DataError(f"{where}: the name {name!a} has a character that can't be seen or decoded; rename it")
    if len(name) > MOST_CLASS_NAME:
        raise DataError(f"{where}: the name {name[:20]!r}... has {len(name)} characters; at most {MOST_CLASS_NAME}")


def class_numbers(
    found: Collection[str], stated: tuple[str, ...], where: str
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Class names, and the number of the class that each name in the data stands for.

    Without stated names the classes are those found, sorted. Names count as equal when they are so in Unicode's form
    NFC, which is the form of those returned.

    Raises DataError: a name is no name; two differ only in form, capitals, blanks or the way of writing a number, and
    no list states both; one is not in the list; there are fewer than two, or more than a plan can hold.
    """
    spelled: dict[str, str] = {}
    for name in sorted(found):
        check_name(name, where)
        other = spelled.setdefault(unicodedata.normalize("NFC", name), name)
        if other != name:
            raise DataError(f"{where}: {_both(other, name)} are one name in two Unicode forms; rename one (NFC)")
    if stated:
        classes = tuple(unicodedata.normalize("NFC", name) for name in stated)
        for name in spelled:
            if name not in classes:
                raise DataError(f"{where}: {name!r} is not one of classes = {_listed(classes)}; add it or take it away")
    else:
        classes = tuple(sorted(spelled))
        _refuse_alike(classes, where)
        if len(classes) < 2:
            raise DataError(f"{where}: {_listed(classes)}; needs two, or name all of the consortium's with `classes`")
        if len(classes) > MOST_CLASSES:
            raise DataError(f"{where}: {len(classes)} different ones; at most {MOST_CLASSES} classes are allowed")
    numbers = {name: number for number, name in enumerate(classes)}
    return classes, {raw: numbers[name] for name, raw in spelled.items()}


def label_names(found: Sequence[str], stated: tuple[str, ...], where: str) -> tuple[str, ...]:
    """Names of labels that a picture may have several of, in Unicode's form NFC: the stated ones, or those found.

    Raises DataError: a name is no name; two look alike, and none are stated; there are fewer than two, or more than a
    plan can hold.
    """
    for name in found:
        check_name(name, where)
    names = tuple(unicodedata.normalize("NFC", name) for name in stated or found)
    if not stated:
        _refuse_alike(names, where)
    if len(names) < 2:
        raise DataError(
            f"{where}: {_listed(names)}; needs two. One that is there or not makes two classes: give each picture its "
            "class instead"
        )
    if len(names) > MOST_LABELS:
        raise DataError(f"{where}: {len(names)} different ones; at most {MOST_LABELS} labels are allowed")
    return names


def similar_name(folder: Path, name: str) -> str | None:
    """What lies in a folder and differs from a name only in Unicode form, capitals or blanks."""
    try:
        return next((other for other in sorted(os.listdir(folder)) if _look(other) == _look(name)), None)
    except OSError:
        return None


def _refuse_alike(names: Iterable[str], where: str) -> None:
    seen: dict[str, str] = {}
    for name in names:
        if says_nothing(name):
            raise DataError(f"{where}: {name!r} looks like a missing value; take it away, or name all `classes`")
        other = seen.setdefault(_look(name), name)
        if other != name:
            raise DataError(f"{where}: {_both(other, name)} look alike; make them one, or name both in `classes`")


def _look(name: str) -> str:
    try:
        return repr(float(name))
    except ValueError:
        return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"{list(names[:20])}{more}"


def _both(one: str, other: str) -> str:
    return f"{one!a} and {other!a}"
