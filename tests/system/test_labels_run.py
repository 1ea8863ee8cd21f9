"""A run by labels, five processes: several at once, many unknown, weighted by all sites' counts; tiles of own cores."""

from __future__ import annotations

import dataclasses
import json
from io import StringIO
from pathlib import Path

import numpy as np
from rich.console import Console

from mple.data import NpzSource, open_source
from mple.model.class_weights import ClassCounts
from mple.plan import Augment, ClassWeights, TaskKind, TaskSettings, choices_of
from mple.plan.orders import channel_order, label_order
from mple.records.class_counts import kept_class_counts
from mple.records.run_folder import COMPUTE, RunFolder
from mple.simulate.plain_training import PlainSettings, train_plain
from mple.simulate.runner import simulate
from tests.support.small_consortium import small_settings, write_pictures

LABELS = ("left", "right", "high")


def label_pictures(path: Path) -> Path:
    """The small consortium's pictures with three labels each, of which a third is unknown."""
    with np.load(write_pictures(path)) as kept:
        arrays = dict(kept)
    dice = np.random.default_rng(5)
    for name in ("y_train", "y_test"):
        place = arrays[name]
        truth = np.stack([place == 2, place == 0, (place == 1) | (place == 0)], axis=1).astype(np.int8)
        arrays[name] = np.where(dice.random(truth.shape) < 1 / 3, -1, truth)
    np.savez(path, **arrays)
    return path


def test_a_run_by_labels_learns_as_plain_training_does(tmp_path: Path) -> None:
    pictures = label_pictures(tmp_path / "set.npz")
    made = small_settings(pictures, preset="distinct", epochs=3, sites=("north", "east", "south"))
    settings = dataclasses.replace(
        made,
        data=dataclasses.replace(made.data, classes=LABELS),
        training=dataclasses.replace(made.training, augment=tuple(Augment)),
        model=dataclasses.replace(made.model, stem_mirrored=True),
        task=TaskSettings(kind=TaskKind.LABELS, class_weights=ClassWeights.INVERSE),
    )
    out, screen = tmp_path / "run", StringIO()
    summary = simulate(settings, out, Console(file=screen, width=160), plain=True)
    assert summary is not None, screen.getvalue()
    assert summary.balance.whole, summary.balance.offenders

    folder = RunFolder(out)
    plan = folder.plan()
    secret = folder.vault("north").consortium_secret(plan.run_id)
    orders = channel_order(plan, secret), label_order(plan, secret)
    sites = [open_source(settings.site_source(place)) for place in range(3)]
    plain = train_plain(
        sites, PlainSettings(choices=choices_of(settings), channel_order=orders[0], label_order=orders[1])
    )
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    morphed_losses = [loss for line in lines if line["kind"] == "step" for loss in line["losses"]]
    plain_losses = [loss for epoch in plain.epochs for loss in epoch.losses]
    assert len(morphed_losses) == len(plain_losses) == 30
    np.testing.assert_allclose(morphed_losses, plain_losses, atol=1e-4)

    counts = ClassCounts.of(open_source(NpzSource(path=pictures)).train.labels, 3)
    assert kept_class_counts(folder.state(COMPUTE), plan.sha256().hex()) == counts.in_order(orders[1])
    written = json.loads((out / "summary.json").read_text())
    for name in ("accuracy", "loss"):  # what else there is leaves out labels that few pictures of a site have
        assert np.isclose(written[f"test_{name}"], plain.test_scores[name], atol=0.02), name
    assert written["wire"]["label_bytes"] == 3 * 240
