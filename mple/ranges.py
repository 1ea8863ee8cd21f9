"""Ranges of settings: declared at the field, checked in one place, shown in the page of all settings.

    releases: Annotated[int, Between(1, 255)] = 4
    codec: Annotated[str, OneOf(CODECS)] = "q6"

A dataclass is a `Ranged`, or calls `check_ranges(self)` in a `__post_init__` of its own.
"""

import math
import typing
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

from mple.printable import printable


@dataclass(frozen=True, slots=True)
class Between:
    """Finite numbers from `low` to `high`, with both ends unless it says otherwise."""

    low: float
    high: float = math.inf
    """Infinity: no upper end."""
    above: bool = False
    """Only numbers above `low`."""
    below: bool = False
    """Only numbers below `high`."""

    def allows(self, value: typing.Any) -> bool:
        """Whether a number is in the range; NaN never is."""
        over = value > self.low if self.above else value >= self.low
        under = value < self.high if self.below or self.high == math.inf else value <= self.high
        return bool(over and under)

    def __str__(self) -> str:
        low = f"above {_number(self.low)}" if self.above else _number(self.low)
        if self.high == math.inf:
            return low if self.above else f"{low} and above"
        return f"{low} to {'below ' if self.below else ''}{_number(self.high)}"


@dataclass(frozen=True, slots=True, eq=False)
class OneOf:
    """A few values; a rule is equal to itself only, for a table has no hash."""

    values: Collection[str | int]
    """A table's names, too."""

    def allows(self, value: typing.Any) -> bool:
        """Whether it is one of them."""
        return value in self.values

    def __str__(self) -> str:
        return ", ".join(map(str, self.values))


@dataclass(frozen=True, slots=True)
class OrNumber:
    """Of a list of names, `Annotated[tuple[str, ...], OrNumber("site", 10_000)]`: a file may have their number in its
    place, and they are named in turn, site-001, site-002, ..."""

    stem: str
    most: int

    def names(self, count: int) -> tuple[str, ...]:
        """So many names. Raises ValueError: too many, or none."""
        if not 1 <= count <= self.most:
            raise ValueError(f"= {count}; a number of names is 1 to {self.most}")
        digits = max(3, len(str(count)))
        return tuple(f"{self.stem}-{number:0{digits}}" for number in range(1, count + 1))


def check_ranges(settings: object) -> None:
    """Hold every field of a dataclass to the range in its annotation; None, and a field without one, are let pass.

    Of a tuple, the elements are held to theirs: `tuple[Annotated[float, Between(0)], ...]`.

    Raises ValueError: a value is outside; the text names field, value and range.
    """
    kind: type = type(settings)
    for name, rule in declared_ranges(kind).items():
        value = getattr(settings, name)
        named = {f"{name}[{i}]": one for i, one in enumerate(value)} if isinstance(value, tuple) else {name: value}
        for what, one in named.items():
            if one is not None and not rule.allows(one):
                advice = "choose one of" if isinstance(rule, OneOf) else "allowed are"
                raise ValueError(f"{what} = {printable(repr(one), 200)}; {advice} {rule}")


class Ranged:
    """A dataclass that holds its fields to their ranges, as `check_ranges` does, when it is made."""

    __slots__ = ()

    def __post_init__(self) -> None:
        check_ranges(self)


@cache
def declared_ranges(kind: type) -> dict[str, Between | OneOf]:
    """The ranges of a dataclass's fields, or of their elements, by the fields' names."""
    found = {}
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        for arm in (hint, *typing.get_args(hint)):  # X, X | None, tuple[X, ...]
            for rule in getattr(arm, "__metadata__", ()):
                if isinstance(rule, Between | OneOf):
                    found[name] = rule
    return found


def _number(value: float) -> str:
    """As a person would write it: 65536, 0.25, 1e9."""
    return str(value) if isinstance(value, int) else f"{value:g}".replace("e+0", "e").replace("e-0", "e-")
