"""Few lines per caller, however often it is refused, and no refusal is forgotten."""

from __future__ import annotations

from mple.audit.call_tally import ACCEPTED, REFUSED, CallTally

Line = tuple[str, str, str, dict[str, object]]


class Paper:
    """Takes lines, by a clock that is set by hand."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.now_s = 100.0
        self.tally = CallTally(self.write, REFUSED, lambda: self.now_s)
        self.accepted = CallTally(self.write, ACCEPTED, lambda: self.now_s)

    def write(self, who: str, what: str, result: str, **facts: object) -> None:
        self.lines.append((who, what, result, facts))


def test_the_first_refusals_are_told_one_by_one() -> None:
    paper = Paper()
    paper.tally.enter("site/north", "refused", "WRONG_PHASE", method="Feed")
    paper.tally.enter("site/south", "refused", "UNKNOWN_PARTY", method="Join")
    assert paper.lines == [
        ("site/north", "refused", "WRONG_PHASE", {"method": "Feed"}),
        ("site/south", "refused", "UNKNOWN_PARTY", {"method": "Join"}),
    ]


def test_a_flood_is_a_sum_and_leaves_others_their_lines() -> None:
    paper = Paper()
    for _ in range(10_000):
        paper.tally.enter("site/north", "refused", "WRONG_PHASE", method="Feed")
    paper.tally.enter("site/south", "refused", "WRONG_PHASE", method="Feed")
    assert [line[0] for line in paper.lines] == ["site/north"] * REFUSED.lines + ["site/south"]
    paper.now_s += REFUSED.window_s
    paper.tally.enter("site/south", "refused", "WRONG_PHASE", method="Feed")
    more = {"calls": 9_990, "which": "WRONG_PHASE 9990"}
    assert paper.lines[-2] == ("site/north", "refused_more", "ok", more)


def test_the_rest_is_told_in_the_end() -> None:
    paper = Paper()
    for _ in range(REFUSED.lines + 3):
        paper.tally.enter("unknown", "refused", "UNIDENTIFIED")
    paper.tally.tell_rest()
    paper.tally.tell_rest()
    assert paper.lines[REFUSED.lines :] == [("unknown", "refused_more", "ok", {"calls": 3, "which": "UNIDENTIFIED 3"})]


def test_accepted_calls_are_summed_by_word_and_their_samples_too() -> None:
    paper = Paper()
    told = [paper.accepted.enter("site/north", "prediction", "ok", samples=64) for _ in range(150)]
    told += [paper.accepted.enter("site/north", "audit_head", "ok", sequence=number) for number in range(2_000)]
    assert told == [True] * 100 + [False] * 2_050
    assert len(paper.lines) == 100
    assert paper.accepted.enter("site/south", "join", "ok"), "another caller has its own lines"
    paper.accepted.tell_rest()
    assert paper.lines[-1] == (
        "site/north",
        "calls_more",
        "ok",
        {"calls": 2_050, "which": "audit_head 2000, prediction 50", "samples": 50 * 64},
    )


def test_in_the_long_run_a_caller_has_a_line_a_second() -> None:
    paper = Paper()
    for second in range(1_000):
        for _ in range(50):
            paper.accepted.enter("site/north", "join", "ok")
        paper.now_s = 100.0 + second
    assert len(paper.lines) <= 1_000 / ACCEPTED.window_s * (ACCEPTED.lines + 1)
    sums = [facts["calls"] for _, what, _, facts in paper.lines if what == "calls_more"]
    assert sums, "what is not told is counted"
