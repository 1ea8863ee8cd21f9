"""Few lines per caller, however often it is refused, and no refusal is forgotten."""

from __future__ import annotations

from mple.audit.refusals import MOST_LINES, WINDOW_S, RefusalTally

Line = tuple[str, str, str, dict[str, object]]


class Paper:
    """Takes lines, by a clock that is set by hand."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.now_s = 100.0
        self.tally = RefusalTally(self.write, lambda: self.now_s)

    def write(self, who: str, what: str, result: str, **facts: object) -> None:
        self.lines.append((who, what, result, facts))


def test_the_first_refusals_are_told_one_by_one() -> None:
    paper = Paper()
    paper.tally.refused("site/north", "WRONG_PHASE", method="Feed")
    paper.tally.refused("site/south", "UNKNOWN_PARTY", method="Join")
    assert paper.lines == [
        ("site/north", "refused", "WRONG_PHASE", {"method": "Feed"}),
        ("site/south", "refused", "UNKNOWN_PARTY", {"method": "Join"}),
    ]


def test_a_flood_is_a_sum_and_leaves_others_their_lines() -> None:
    paper = Paper()
    for _ in range(10_000):
        paper.tally.refused("site/north", "WRONG_PHASE", method="Feed")
    paper.tally.refused("site/south", "WRONG_PHASE", method="Feed")
    assert [line[0] for line in paper.lines] == ["site/north"] * MOST_LINES + ["site/south"]
    paper.now_s += WINDOW_S
    paper.tally.refused("site/south", "WRONG_PHASE", method="Feed")
    assert paper.lines[-2] == ("site/north", "refused_more", "ok", {"calls": 10_000 - MOST_LINES})


def test_the_rest_is_told_in_the_end() -> None:
    paper = Paper()
    for _ in range(MOST_LINES + 3):
        paper.tally.refused("unknown", "UNIDENTIFIED")
    paper.tally.tell_rest()
    paper.tally.tell_rest()
    assert paper.lines[MOST_LINES:] == [("unknown", "refused_more", "ok", {"calls": 3})]
