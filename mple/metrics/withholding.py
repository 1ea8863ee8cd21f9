"""What a site does not tell of few samples. Pure.

A tally over fewer samples than the site's least count is withheld as a whole. Of one that is kept by class, a class
with fewer samples, or fewer samples of other classes, is left out: its counts are 0. So are further ones, the smallest
first, until those left out are two at least and have the least count together: no difference between a total and what
is told shows a single small class.

Legend: N samples, C classes or labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mple.metrics.outputs import Outputs, truths_of
from mple.metrics.tallies import TALLIES, Tally, counts_of, tallies


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What leaves a site of one scoring."""

    tallies: dict[str, Tally]
    withheld: tuple[str, ...] = ()
    """Tallies that the plan names and that are not told."""
    left_out: tuple[int, ...] = ()
    """Classes that are left out of those which are kept by class."""


def told(
    logits_NC: NDArray[np.float64], labels: NDArray[np.int64], outputs: Outputs, names: Sequence[str], least: int
) -> Told:
    """The tallies of samples, as far as a least count allows.

    Args:
        logits_NC: As of `tallies`, and so `labels` and `outputs`.
        labels: All of the split's: over a part of them, differences would tell the rest.
        outputs: What the columns stand for.
        names: Of the tallies that the plan asks for.
        least: The site's least count; with 1 nothing is withheld.
    """
    due = tuple(name for name in names if TALLIES[name].shape(outputs))
    truths_NC = truths_of(labels, outputs)
    if (truths_NC >= 0).any(axis=1).sum() < least:
        return Told(tallies={}, withheld=due)
    out_C = classes_left_out(truths_NC, least)
    made = tallies(logits_NC, labels, outputs, due)
    by_class = [name for name in due if TALLIES[name].class_axes(outputs)]
    withheld = tuple(by_class) if out_C.all() else ()
    kept = {name: _without(name, made[name], outputs, out_C) for name in made if name not in withheld}
    return Told(tallies=kept, withheld=withheld, left_out=tuple(np.flatnonzero(out_C).tolist()))


def withheld_text(
    labels: NDArray[np.int64], outputs: Outputs, names: Sequence[str], least: int, classes: Sequence[str]
) -> str:
    """What a site will not tell of a split, whatever the network says of it; empty where it tells everything."""
    here = told(np.zeros((len(labels), outputs.count)), labels, outputs, names, least)
    said = [f"no {', '.join(here.withheld)}"] if here.withheld else []
    if here.left_out and len(here.left_out) < outputs.count:
        said.append(f"nothing by class of {', '.join(classes[place] for place in here.left_out)}")
    return "; ".join(said)


def classes_left_out(truths_NC: NDArray[np.int64], least: int) -> NDArray[np.bool_]:
    """Which classes (C) are too small to be told of, or hide one that is. A class without any sample hides none."""
    parts_2C = np.stack([(truths_NC == 1).sum(axis=0), (truths_NC == 0).sum(axis=0)])
    # The smaller part that there is of each class: a part of none tells of nobody.
    size_C = np.where(parts_2C > 0, parts_2C, np.iinfo(np.int64).max).min(axis=0)
    out_C = size_C < least
    others = [place for place in np.argsort(size_C, kind="stable") if parts_2C[0, place] and not out_C[place]]
    while out_C.any() and others and (out_C.sum() < 2 or size_C[out_C].sum() < least):
        out_C[others.pop(0)] = True
    return out_C if others or not out_C.any() else np.ones_like(out_C)


def _without(name: str, tally: Tally, outputs: Outputs, out_C: NDArray[np.bool_]) -> Tally:
    """A tally by class without some of them; of a confusion matrix the rows: a true class's samples are its row."""
    if not TALLIES[name].class_axes(outputs) or not out_C.any():
        return tally
    counts = counts_of(name, tally, outputs)
    counts[out_C] = 0
    return Tally(tuple(counts.ravel().tolist()), tally.sums)
