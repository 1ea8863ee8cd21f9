"""What SPU's log says of runs."""

from __future__ import annotations

from comparison.elsewhere.link_details import PartDetails, link_details

RUN = """\
[2026-11-24 22:32:12.697] [info] [api.cc:220] HLO profiling: total time 1.8998625940000002
[2026-11-24 22:32:12.697] [info] [api.cc:223] - pphlo.less, executed 1 times, duration 1.27720039s, send bytes \
4530176 recv bytes 860160, send actions 38, recv actions 36
[2026-11-24 22:32:12.697] [info] [api.cc:223] - pphlo.reshape, executed 5 times, duration 2.7e-05s, send bytes 0 recv \
bytes 0, send actions 0, recv actions 0
[2026-11-24 22:32:12.697] [info] [api.cc:220] HAL profiling: total time 1.890199876
[2026-11-24 22:32:12.697] [info] [api.cc:223] - f_less, executed 1 times, duration 1.277185518s, send bytes 4530176 \
recv bytes 860160, send actions 38, recv actions 36
[2026-11-24 22:32:12.697] [info] [api.cc:233] Link details: total send bytes 8034017, recv bytes 2025170, send \
actions 57, recv actions 46
"""


def test_each_run_has_its_own_figures() -> None:
    first, second = link_details(RUN + RUN.replace("8034017", "12").replace("pphlo.less", "pphlo.dot"))
    assert (first.sent_bytes, first.received_bytes, first.messages_sent, first.messages_received) == (
        8034017,
        2025170,
        57,
        46,
    )
    less = PartDetails(times=1, seconds=1.27720039, sent_bytes=4530176, received_bytes=860160)
    assert first.parts == {"pphlo.less": less}, "an operation counts once, and those that cost nothing are left out"
    assert (second.sent_bytes, list(second.parts)) == (12, ["pphlo.dot"])


def test_a_run_that_was_cut_off_is_left_out() -> None:
    assert link_details(RUN[: RUN.index("Link details")]) == ()
