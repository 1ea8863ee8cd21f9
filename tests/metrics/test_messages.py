"""Tallies on the wire: a histogram's zeros take nothing, what is read back is what was told, lies allocate nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mple.metrics import Tally
from mple.metrics.messages import from_messages, to_messages
from mple.v1 import common_pb2

_COUNTS = st.lists(st.one_of(st.just(0), st.integers(0, 2**63)), max_size=60)


@given(_COUNTS, st.lists(st.floats(allow_nan=False), max_size=4))
def test_what_is_read_back_is_what_was_told(counts: list[int], sums: list[float]) -> None:
    tally = Tally(tuple(counts), tuple(sums))
    message = common_pb2.Tally.FromString(to_messages({"scores": tally})["scores"].SerializeToString())
    assert from_messages({"scores": message}) == {"scores": tally}


def test_golden() -> None:
    message = to_messages({"scores": Tally((0, 0, 5, 0, 1, 0), (0.5,))})["scores"]
    assert list(message.counts) == [5, 1] and list(message.gaps) == [2, 1] and message.length == 6
    assert message.SerializeToString().hex() == "0a0205011208000000000000e03f1a0202012006"


def test_zeros_take_no_bytes() -> None:
    message = to_messages({"scores": Tally((0,) * 40_000 + (3,))})["scores"]
    assert message.ByteSize() <= 13


@pytest.mark.parametrize(
    "fields",
    [
        {"counts": [1], "gaps": [], "length": 1},
        {"counts": [], "gaps": [1], "length": 9},
        {"counts": [1], "gaps": [5], "length": 5},
        {"counts": [1, 1], "gaps": [0, 4_000_000_000], "length": 9},
        {"counts": [0], "gaps": [0], "length": 1},
        {"counts": [], "gaps": [], "length": 4_000_000_000},
    ],
    ids=["count without a gap", "gap without a count", "beyond the length", "far beyond", "a zero", "no such length"],
)
def test_what_contradicts_itself_is_refused(fields: dict[str, list[int]]) -> None:
    with pytest.raises(ValueError, match=r"tally of 'scores'"):
        from_messages({"scores": common_pb2.Tally(**fields)})  # type: ignore[arg-type]


def test_names_that_no_tally_has_are_refused_before_their_lengths_are_believed() -> None:
    """A message of a megabyte could else ask for a hundred gigabytes."""
    many = {f"tally {number}": common_pb2.Tally(length=2**18) for number in range(40_000)}
    with pytest.raises(ValueError, match=r"no tally of 'tally 0'"):
        from_messages(many)
