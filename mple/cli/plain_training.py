"""What `mple plain` does; apart from the other verbs because it imports torch."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from mple.data import Dataset, open_source
from mple.delivered.continued import require_going_on
from mple.disk.whole_files import write_whole
from mple.metrics import epoch_text, scores_text, summary_scores
from mple.model.device import Device
from mple.model.initial_weights import InitialWeights
from mple.model.stem import Stem
from mple.model.weights import save_trunk
from mple.plan import SettingsError, changed_sections, choices_of
from mple.plan.orders import channel_order, label_order
from mple.records.run_folder import SUMMARY, RunEnd, RunFolder, new_folder
from mple.records.state_files import MODEL
from mple.simulate.plain_training import PlainEpoch, PlainSettings, train_plain
from mple.simulate.settings import SimulationSettings
from mple.terminal import echo

_NOT_OF_PLAIN_TRAINING = ("morph", "wire", "absence", "privacy")
"""Sections of a run that change nothing in a plain training; any other must be the same."""


def train_as_plain(settings: SimulationSettings, out: Path, like: Path | None) -> None:
    """Train on the plain pictures of a simulation's sites and leave figures and network in a new folder.

    With `like`, the folder of a finished simulation, its channel order and label order are used.

    Raises ValueError: settings, data or a folder can't be used, or the run in `like` had other settings.
    """
    sites = [open_source(settings.site_source(place)) for place in range(len(settings.sites))]
    plain = PlainSettings(
        choices=choices_of(settings),
        device=Device.named(settings.machine.device),
        stem=None if settings.stem_file is None else Stem.from_safetensors(settings.stem_file),
        weights=None if settings.weights_file is None else InitialWeights.from_file(settings.weights_file),
    )
    if plain.weights is not None:
        first = sites[0]
        otherwise = require_going_on(plain.weights.metadata, settings, first.classes, first.train.shape.channels)
        echo(*(f"note: {line}" for line in otherwise))
    if like is not None:
        plain = _as_in(like, plain, settings.sites, sites)
    new_folder(out)
    torch.set_num_threads(settings.machine.trainer_threads)
    outcome = train_plain(sites, plain, _say_epoch)
    echo(f"the network of epoch {outcome.kept_epoch}: {scores_text(outcome.test_scores)}")
    save_trunk(outcome.trunk, out / MODEL, {"trained": "plain"})
    summary = {
        "state": RunEnd.FINISHED,
        "epochs": [
            {"loss": e.loss, **summary_scores(e.scores, "val"), "seconds": e.seconds, "losses": e.losses}
            for e in outcome.epochs
        ],
        "kept_epoch": outcome.kept_epoch,
        **summary_scores(outcome.val_scores, "val"),
        **summary_scores(outcome.test_scores),
        "train_seconds": outcome.train_seconds,
        "model_sha256": outcome.model_sha256,
    }
    write_whole(out / SUMMARY, json.dumps(summary, indent=2).encode() + b"\n")


def _as_in(folder: Path, plain: PlainSettings, names: Sequence[str], sites: Sequence[Dataset]) -> PlainSettings:
    """The same with the channel order and label order of a simulated run, whose plan must be the same otherwise."""
    run = RunFolder.finished(folder)
    plan = run.plan()
    planned = [(site.name, site.train_images, site.val_images, site.test_images) for site in plan.sites]
    changed = [name for name in changed_sections(plan, plain.choices) if name not in _NOT_OF_PLAIN_TRAINING]
    here = [(name, len(s.train), len(s.val), len(s.test)) for name, s in zip(names, sites, strict=True)]
    if planned != here:
        changed.append("sites")
    if plan.weights_digest != ("" if plain.weights is None else plain.weights.sha256.hex()):
        changed.append("weights_file")
    if changed:
        raise SettingsError(f"the run in {folder} had another {', '.join(changed)}; give it the same settings")
    secret = run.vault(plan.sites[0].name).consortium_secret(plan.run_id)
    return replace(plain, channel_order=channel_order(plan, secret), label_order=label_order(plan, secret))


def _say_epoch(epoch: PlainEpoch) -> None:
    echo(f"epoch {epoch.epoch}: {epoch_text(epoch.loss, epoch.scores)}, {epoch.seconds:.1f} s")
