"""Texts of others where a person reads them: printable, in one line, cut. Pure; nothing is shown or logged without it.

Host names, class names, paths, failure texts and versions may be anybody's words. Raw, they move a terminal's cursor,
hide or reverse what stands beside them, break a line in two, or fill a screen.
"""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePath

MOST_CLASS_NAME = 200
"""Characters of a class name."""
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_INVISIBLE = re.compile(
    "[\N{COMBINING GRAPHEME JOINER}\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)
"""Letters and marks by their category, of no width or no ink by their look (Unicode's Default_Ignorable_Code_Point)."""
_MOST_MARKS = 4
"""Marks on one letter; more of them cover the lines above and below."""
_NAME = re.compile("[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LABEL = re.compile("(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
_MOST_HOST = 253
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n")


def printable(text: object, most: int | None = None) -> str:
    """The text in one line in which every sign is seen and none steers; any other stands there as an escape of the form
    that JSON, TOML and Python share: `\\u001b`. Beyond `most` characters it is cut, and says so.

    Guarantees: no control characters (ESC, line ends and tabs among them), no direction marks or overrides, no line or
    paragraph separators, nothing of zero width, no lone surrogates, no private or unassigned code points, at most four
    marks on a letter; letters of any script stay. What is printable already comes back equal. Not promised: that two
    texts which look alike are alike.
    """
    whole = str(text)
    shown = _shown(whole if most is None else whole[:most])
    if most is None or (len(whole) <= most and len(shown) <= most):
        return shown
    note = f"... ({len(whole):,} characters)"
    return shown[: max(0, most - len(note))] + note


def printable_lines(text: object, most: int = 4_000) -> str:
    """A text of several lines, each printable; those after the first are indented, so that none poses as another."""
    return "\n  ".join(printable(line.strip(" "), most) for line in str(text)[: 10 * most].split("\n"))


def some_of(names: Iterable[str], most: int = 16, between: str = ", ") -> str:
    """Names in a sentence; of many the first ones, and how many there are."""
    listed = list(names)
    if len(listed) <= most:
        return between.join(listed)
    return f"{between.join(listed[:most])}{between}... ({len(listed):,} in all)"


def require_printable(what: str, text: str, most: int = MOST_CLASS_NAME) -> None:
    """Refuse a name that people could not read.

    Raises ValueError: it is empty, has more than `most` characters, or `printable` would change it.
    """
    if not 1 <= len(text) <= most or _shown(text) != text:
        raise ValueError(
            f"{what} {printable(repr(text), 80)} has {len(text)} characters; use 1 to {most} that can be printed, "
            "without control, direction or zero-width characters"
        )


def require_name(what: str, text: str) -> None:
    """Refuse what is no name of a party, consortium or run: such names stand in certificates, plans and file names.

    Raises ValueError: it is none.
    """
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"{what} {printable(repr(text), 80)}: use 1 to 63 lower-case letters, digits and inner hyphens"
        )


def is_host_name(text: str) -> bool:
    """Whether it is a name of one host: labels of ASCII letters, digits and inner hyphens (RFC 1123, section 2.1), the
    last one not of digits alone. No wildcard, no underscore, no address."""
    labels = text.split(".")
    return len(text) <= _MOST_HOST and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit()


def spreadsheet_cell(value: object) -> object:
    """A cell of a CSV file: numbers stay, a text is printable and, where a spreadsheet would take it for a formula,
    follows on an apostrophe."""
    if not isinstance(value, str | bytes | PurePath):
        return value
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    shown = printable(text)
    return f"'{shown}" if text.lstrip(" ").startswith(_FORMULA) else shown


def _shown(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    shown, marks = [], 0
    for sign in text:
        category = unicodedata.category(sign)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        seen = (sign.isprintable() or category == "Zs") and not _INVISIBLE.match(sign) and marks <= _MOST_MARKS
        shown.append(sign if seen else _escaped(sign))
    return "".join(shown)


def _escaped(sign: str) -> str:
    code = ord(sign)
    return _SHORT.get(sign) or (f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}")
