"""Ranges in annotations: what they let pass, and how a refusal reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest

from mple.ranges import Between, OneOf, check_ranges, declared_ranges

NAN, INFINITY = float("nan"), float("inf")


@dataclass(frozen=True, kw_only=True, slots=True)
class Some:
    count: Annotated[int, Between(1, 255)] = 1
    rate: Annotated[float, Between(0, 10, above=True)] = 1.0
    share: Annotated[float, Between(0, 1, below=True)] = 0.5
    most: Annotated[int, Between(1)] | None = None
    weights: tuple[Annotated[float, Between(0, above=True)], ...] = ()
    side: Annotated[int, OneOf((1, 3, 5))] = 3
    patience_s: Annotated[float, Between(0, 1e9)] = 1.0
    name: str = ""

    def __post_init__(self) -> None:
        check_ranges(self)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"count": 0}, "count = 0; allowed are 1 to 255"),
        ({"count": 256}, "count = 256; allowed are 1 to 255"),
        ({"rate": 0.0}, "rate = 0.0; allowed are above 0 to 10"),
        ({"rate": 10.5}, "rate = 10.5; allowed are above 0 to 10"),
        ({"rate": NAN}, "rate = nan; allowed are above 0 to 10"),
        ({"share": 1.0}, "share = 1.0; allowed are 0 to below 1"),
        ({"share": -0.1}, "share = -0.1; allowed are 0 to below 1"),
        ({"most": 0}, "most = 0; allowed are 1 and above"),
        ({"most": INFINITY}, "most = inf; allowed are 1 and above"),
        ({"weights": (1.0, 0.0)}, "weights[1] = 0.0; allowed are above 0"),
        ({"weights": (INFINITY,)}, "weights[0] = inf; allowed are above 0"),
        ({"side": 2}, "side = 2; choose one of 1, 3, 5"),
        ({"patience_s": 2e9}, "patience_s = 2000000000.0; allowed are 0 to 1e9"),
    ],
)
def test_what_is_outside_is_refused_in_one_sentence(given: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError) as fault:  # noqa: PT011
        Some(**given)  # type: ignore[arg-type]
    assert str(fault.value) == text


def test_ends_are_inside_unless_it_says_otherwise() -> None:
    Some(count=255, rate=10, share=0, most=1, weights=(1e-300, 1e300), patience_s=1e9)
    Some(count=1, rate=1e-300, share=0.999, most=10**30)


def test_ranges_are_found_in_every_form_of_annotation() -> None:
    assert list(declared_ranges(Some)) == ["count", "rate", "share", "most", "weights", "side", "patience_s"]
