"""Scores in the folder of a made-up run: drawn logits of every site, the compute node's tallies, the sites' files."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from mple.disk.json_records import write_record
from mple.metrics import Tally, exact, merged, pooled, reordered
from mple.metrics.messages import to_messages
from mple.metrics.withholding import told
from mple.plan import RunPlan
from mple.records.run_folder import COMPUTE, RunFolder
from mple.records.scores import NetworkScores
from mple.records.state_files import SCORES, SITE_SCORES
from mple.report import Summary, summarise
from mple.v1 import coordinator_pb2
from provider_node.feeding.score_record import site_scores
from tests.support.finished_run import EPOCHS
from tests.support.judged import drawn

_DRAWS = 20
Judged = tuple[NDArray[np.float64], NDArray[np.int64]]


def scored_run(
    folder: Path,
    plan: RunPlan,
    *,
    files: Collection[str] | None = None,
    least: int = 1,
    judged: Mapping[str, Judged] = MappingProxyType({}),
) -> tuple[Summary, dict[str, Judged]]:
    """Put scores into the folder of a `finished_run` of the plan, and sum it up anew.

    Args:
        folder: Of the run.
        plan: Its plan.
        files: Sites whose own file is at hand; by default all.
        least: Every site's least count.
        judged: Logits and labels of test pictures of some sites; by default drawn.

    Returns the summary, and each site's logits and labels of test pictures. Intervals are made of few draws.
    """
    with (
        patch.object(exact, "_MOST_DRAWS", _DRAWS),
        patch.object(exact, "_LEAST_DRAWS", _DRAWS),
        patch.object(pooled, "_DRAWS", _DRAWS),
    ):
        return _scored_run(folder, plan, files, least, judged)


def _scored_run(
    folder: Path, plan: RunPlan, files: Collection[str] | None, least: int, judged: Mapping[str, Judged]
) -> tuple[Summary, dict[str, Judged]]:
    outputs, order = plan.outputs, np.roll(np.arange(len(plan.classes)), 1)
    tests, vals = {}, {}
    for seed, site in enumerate(plan.sites):
        tests[site.name] = judged.get(site.name) or drawn(outputs, site.test_images, seed=10 + seed)
        vals[site.name] = drawn(outputs, site.val_images, seed=20 + seed)

    def told_by(split: Mapping[str, Judged]) -> dict[str, dict[str, Tally]]:
        return {
            site: reordered(told(*one, outputs, plan.metrics.tallies, least).tallies, order, outputs)
            for site, one in split.items()
            if len(one[1])
        }

    test, val = told_by(tests), told_by(vals)
    scores = NetworkScores(
        plan_sha256=plan.sha256().hex(),
        model_sha256="ab" * 32,
        kept_epoch=EPOCHS,
        epochs=EPOCHS,
        val=val,
        test=test,
    )
    run = RunFolder(folder, tuple(tests))
    write_record(run.state(COMPUTE) / SCORES, scores)
    scored = coordinator_pb2.NetworkScored(
        epoch=EPOCHS,
        val_tallies=to_messages(merged(val.values())),
        test_tallies=to_messages(merged(test.values())),
    )
    for site in files if files is not None else tests:
        own = {
            name: (one[site][0].astype(np.float32), one[site][1]) if len(one[site][1]) else None
            for name, one in (("val", vals), ("test", tests))
        }
        record = site_scores(plan, site, scored, order, val=own["val"], test=own["test"])
        write_record(run.state(site) / SITE_SCORES.format(plan.run_id), record)
    return summarise(folder, "mple simulate three.toml --out run"), tests
