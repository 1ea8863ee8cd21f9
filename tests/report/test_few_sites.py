"""Of very many sites a report shows the ends and the sums."""

from mple.printable import some_of
from mple.report.few_sites import few_of, left_out_note, untold


def test_few_sites_are_all_shown_in_their_order() -> None:
    sites = [(f"s{number}", 16 - number) for number in range(16)]
    assert few_of(sites, lambda one: one[1]) == (sites, 0)
    assert left_out_note(0, "ratio") == ""


def test_of_many_sites_the_ends_are_shown_and_the_others_counted() -> None:
    sites = [(f"s{number}", (number * 37) % 1000) for number in range(1000)]
    shown, left_out = few_of(sites, lambda one: one[1])
    assert [value for _, value in shown] == [0, 1, 2, 3, 996, 997, 998, 999]
    assert left_out == 992
    assert "992 more" in left_out_note(left_out, "ratio")


def test_of_many_names_a_sentence_has_the_first() -> None:
    assert some_of(["a", "b"]) == "a, b"
    assert some_of(map(str, range(1000)), 3) == "0, 1, 2, ... (1,000 in all)"
    assert some_of(["a", "b", "c"], 1, "; ") == "a; ... (3 in all)"


def test_what_many_sites_kept_back_is_one_sentence() -> None:
    few = untold("test", {"north": (["counts"], 0), "south": ([], 2)})
    assert few[0] == "withheld by north of its test pictures, too few: counts"
    assert few[1].startswith("left out by south of what it tells by class of its test pictures: 2 classes, under its")
    kept_back = {f"s{number}": (["counts"], 1 if number == 7 else 0) for number in range(100)}
    assert untold("test", kept_back) == [
        "withheld by s0, s1, s2, s3, ... (100 in all) of its test pictures, too few: counts",
        "left out by s7 of what each tells by class of its test pictures: 1 class, under its least count or so that no "
        "difference tells one that is",
    ]
