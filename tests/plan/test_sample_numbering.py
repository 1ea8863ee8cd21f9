"""Numbers over all sites and ids within one, there and back."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mple.plan.sample_numbering import SampleNumbering

SIZES = st.lists(st.integers(0, 30), min_size=1, max_size=6)


@given(sizes=SIZES, seed=st.integers(0, 2**32))
def test_every_number_is_one_id_of_one_site(sizes: list[int], seed: int) -> None:
    numbering = SampleNumbering({str(place): size for place, size in enumerate(sizes)})
    assert numbering.samples == sum(sizes)
    shuffled = np.random.default_rng(seed).permutation(numbering.samples)
    found = numbering.by_site(shuffled)
    assert {site: sorted(ids.tolist()) for site, ids in found.items()} == {
        str(place): list(range(size)) for place, size in enumerate(sizes) if size
    }
    for site, ids in found.items():
        numbers = numbering.numbers(site, ids)
        assert numbers.tolist() == [number for number in shuffled.tolist() if number in set(numbers.tolist())]
        span = numbering.span(site)
        assert sorted(numbers.tolist()) == list(range(span.start, span.stop))


def test_a_site_without_samples_has_an_empty_place() -> None:
    numbering = SampleNumbering({"north": 3, "south": 0, "west": 2})
    assert numbering.span("south") == slice(3, 3)
    assert numbering.numbers("west", (1, 0)).tolist() == [4, 3]
    assert numbering.by_site(np.empty(0, np.int64)) == {}
