"""Which sites a table shows where there are very many: those at both ends of what is compared, beside the whole."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from mple.printable import some_of

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


def untold(split: str, kept_back: Mapping[str, tuple[Sequence[str], int]]) -> list[str]:
    """What sites kept back of a split's scores, by site tallies and a number of classes: sentences for each site or, of
    very many, for all that kept back the same."""
    many = len(kept_back) > MOST_SITES
    sites_of: dict[str, list[str]] = {}
    for site, (tallies, classes) in kept_back.items():
        if tallies:
            text = f"withheld by {{}} of its {split} pictures, too few: {', '.join(tallies)}"
            sites_of.setdefault(text, []).append(site)
        if classes:
            it, what = "each" if many else "it", "1 class" if classes == 1 else f"{classes} classes"
            text = (
                f"left out by {{}} of what {it} tells by class of its {split} pictures: {what}, under its least "
                "count or so that no difference tells one that is"
            )
            sites_of.setdefault(text, []).append(site)
    if many:
        return [text.format(some_of(sites, 4)) for text, sites in sites_of.items()]
    return [text.format(site) for site in kept_back for text, sites in sites_of.items() if site in sites]
