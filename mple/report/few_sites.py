"""Which sites a table shows where there are very many: those at both ends of what is compared, beside the whole."""

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
MOST_SITES = 16
"""A table has all of so many."""
_ENDS = 4


def few_of(sites: Sequence[T], measure: Callable[[T], float]) -> tuple[list[T], int]:
    """All sites or, of more than `MOST_SITES`, the four of the lowest measure and the four of the highest, ascending;
    and how many are left out."""
    if len(sites) <= MOST_SITES:
        return list(sites), 0
    ordered = sorted(sites, key=measure)
    return [*ordered[:_ENDS], *ordered[-_ENDS:]], len(sites) - 2 * _ENDS


def left_out_note(left_out: int, measured: str) -> str:
    """What a table says of them; empty where it has all."""
    if not left_out:
        return ""
    return f"; shown are the sites of lowest and of highest {measured}, {left_out:,} more are in summary.json"
