"""A site changes its key while the consortium trains, then revokes the old one: the run goes on, the old data go."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compute_node.feeding.sample_cache import SampleCache
from mple.audit import FILE_NAME, read_entries, verify
from mple.cli import main
from mple.delivered.check import Verdict
from mple.delivered.folder import DeliveredNetwork
from mple.exit_codes import ExitCode
from mple.plan import DeliverTo, RunPlan
from mple.records.cache_records import CacheShape
from mple.records.run_folder import COMPUTE, COORDINATOR, RunFolder
from mple.simulate.children import Children
from mple.simulate.laying_out import lay_out
from mple.v1 import common_pb2
from tests.support.small_consortium import (
    epochs_done,
    predicted,
    small_settings,
    start_node,
    wait_for_end,
    wait_until,
    write_pictures,
)

SITE = "north"
NODES = (COORDINATOR, COMPUTE)
HELD = "south"
"""A site that is held now and then: no epoch can be scored without it, so that the run does not end meanwhile."""


def test_a_site_rotates_and_revokes_while_the_run_goes_on(tmp_path: Path) -> None:
    change_keys(tmp_path, lambda _children, _folder: None)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [SITE, COMPUTE, COORDINATOR])
def test_a_node_is_killed_at_every_step_of_it(tmp_path: Path, victim: str) -> None:
    def kill_and_start(children: Children, folder: RunFolder) -> None:
        assert children.kill(victim) == 137
        start_node(children, folder, victim)

    change_keys(tmp_path, kill_and_start)


def change_keys(tmp_path: Path, between: Callable[[Children, RunFolder], None]) -> None:
    """A whole run in which a site rotates and then revokes; something happens between the steps."""
    settings = small_settings(write_pictures(tmp_path / "set.npz"), codec="k6", epochs=9, deliver=DeliverTo.SITES)
    settings = replace(settings, data=replace(settings.data, validation_share=0.2))  # each epoch waits for its scores
    folder = lay_out(tmp_path / "run", settings)
    with Children(10.0) as children:
        for name in (*NODES, *folder.sites):
            start_node(children, folder, name)
        wait_until(lambda: epochs_done(folder) >= 1)
        old_layer = planned_layer(folder)
        assert children.pause(HELD)
        assert main(["keys", "rotate", str(folder.config(SITE))]) == ExitCode.DONE
        between(children, folder)
        wait_until(lambda: notes(folder)["in_use"] == 2)
        between(children, folder)
        children.go_on(HELD)
        done = epochs_done(folder)
        wait_until(lambda: epochs_done(folder) > done)
        assert children.pause(HELD)
        assert main(["keys", "revoke", str(folder.config(SITE)), "1", "--yes"]) == ExitCode.DONE
        between(children, folder)
        wait_until(lambda: notes(folder)["erased"] == [1])
        between(children, folder)
        children.go_on(HELD)
        codes = wait_for_end(children, {*NODES, *folder.sites}, timeout_s=100.0)
    assert set(codes.values()) == {ExitCode.DONE}
    for site in folder.sites:
        assert DeliveredNetwork.at(folder.state(site)).record.check.verdict is Verdict.CODED
    nothing_is_left_of_the_old_key(folder, old_layer)
    the_trails_tell_of_it(folder)


def test_after_the_run_its_keys_answer_until_they_are_revoked(tmp_path: Path) -> None:
    settings = small_settings(write_pictures(tmp_path / "set.npz", train=120, test=12), codec="k5.5", epochs=6)
    folder = lay_out(tmp_path / "run", settings)
    with Children(10.0) as children:
        for name in NODES:
            start_node(children, folder, name, "--set", "stay=true")
        for name in folder.sites:
            start_node(children, folder, name)
        wait_until(lambda: (folder.state(SITE) / f"releases-{run_id(folder)}.bin").exists())
        assert children.pause(HELD)
        assert main(["keys", "rotate", str(folder.config(SITE))]) == ExitCode.DONE
        wait_until(lambda: notes(folder)["in_use"] == 2)
        children.go_on(HELD)
        assert set(wait_for_end(children, set(folder.sites)).values()) == {ExitCode.DONE}
        assert predicted(folder, "--test", "2").returncode == ExitCode.DONE
        assert main(["keys", "rotate", str(folder.config(SITE))]) == ExitCode.DONE
        assert main(["keys", "revoke", str(folder.config(SITE)), "--all", "--yes"]) == ExitCode.DONE
        start_node(children, folder, SITE)
        assert wait_for_end(children, {SITE}) == {SITE: ExitCode.DONE}
        assert notes(folder)["erased"] == [1, 2]
        assert "was revoked at" in predicted(folder, "--test", "2").stderr
        children.stop()
    cache = open_cache(folder)
    assert (cache.count(0), cache.count(3)) == (0, 0)
    the_trails_tell_of_it(folder)


def notes(folder: RunFolder) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder.state(SITE) / "run-keys.json").read_text(encoding="utf-8"))
    return found


def run_id(folder: RunFolder) -> str:
    return str(notes(folder)["run_id"]) if (folder.state(SITE) / "run-keys.json").exists() else ""


def planned_layer(folder: RunFolder) -> str:
    listed = json.loads((folder.state(COMPUTE) / "layers" / "run.json").read_text(encoding="utf-8"))
    return f"{listed['layers'][SITE]}.safetensors"


def run_plan(folder: RunFolder) -> RunPlan:
    return folder.plan()


def open_cache(folder: RunFolder) -> SampleCache:
    plan = run_plan(folder)
    return SampleCache(folder.state(COMPUTE) / f"cache-{plan.run_id}.bin", CacheShape.of(plan), folder.cache_secret(0))


def nothing_is_left_of_the_old_key(folder: RunFolder, old_layer: str) -> None:
    plan, cache = run_plan(folder), open_cache(folder)
    train = sum(site.train_images for site in plan.sites)
    old, new = [site.name for site in plan.sites].index(SITE), len(plan.sites)
    assert cache.count(old) == 0
    keys = cache.read(common_pb2.SPLIT_TRAIN, np.arange(train)).keys_B
    assert np.count_nonzero(keys == new) == plan.site(SITE).train_images
    for name in NODES:
        assert not list(folder.state(name).rglob(old_layer)), f"{name} still has the layer"
    assert not (folder.config(SITE).parent / "vault" / "morph.key").exists()


def the_trails_tell_of_it(folder: RunFolder) -> None:
    for name in (*NODES, SITE):
        path = folder.state(name) / FILE_NAME
        assert verify(path).sound, name
        told = {entry.what for entry in read_entries(path)}
        assert {"key_rotated", "key_revoked", "key_erased"} <= told, name
        erased = next(entry.facts for entry in read_entries(path) if entry.what == "key_erased")
        assert (erased["epoch"], int(erased["samples"]) > 0, int(erased["layer_bytes"]) > 0) == (1, True, True)
