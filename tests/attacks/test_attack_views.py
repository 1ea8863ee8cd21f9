"""Views hold what their adversary holds and nothing else; the truth is kept apart; what is read is what was sent."""

from __future__ import annotations

import dataclasses
import itertools
import os
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest

from compute_node.feeding.sample_cache import SampleCache
from mple.attacks.lab import adversary, run_views
from mple.attacks.lab.cached_codes import read_caches
from mple.attacks.registry import attacks, attacks_named
from mple.data import LabelledImages
from mple.morph import MorphKey
from mple.plan import MorphSettings
from mple.records.cache_records import CacheShape
from mple.records.layer_list import LayerList, RotatedLayer, list_of_finished, write_list
from mple.records.run_folder import RunFolderError
from mple.v1 import common_pb2
from mple.wire.batch import Batch
from mple.wire.codecs import codec_named
from tests.support.morphed_world import morphed_world, natural_pixels
from tests.support.small_plan import CACHE_SECRET, small_plan

COMMON = {"plan", "public_PCHW"}
HELD = {
    adversary.Outsider: COMMON | {"public_labels_P", "morphed"},
    adversary.OutsiderWithPairs: COMMON | {"morphed", "pairs"},
    adversary.ComputeNode: COMMON | {"sites", "layers"},
    adversary.ComputeNodeWithStem: COMMON | {"sites", "layers", "stem"},
    adversary.ColludingCompute: COMMON
    | {"sites", "layers", "colluder", "key", "key_epoch", "basis", "channel_order_F"},
    adversary.WireObserver: COMMON | {"messages"},
}


@pytest.mark.parametrize("kind", HELD, ids=lambda kind: kind.__name__)
def test_a_view_has_these_fields_and_no_other(kind: type) -> None:
    assert {field.name for field in dataclasses.fields(kind)} == HELD[kind]
    assert not hasattr(object.__new__(kind), "__dict__")


def test_every_attack_takes_a_stated_view() -> None:
    rows = [one for one in vars(run_views).values() if isinstance(one, run_views.Adversary)]
    assert {get_type_hints(row.view)["return"] for row in rows} == set(HELD)
    assert {attack.adversary for attack in attacks()} == {row.words for row in rows}
    names = [attack.name for attack in attacks()]
    assert len(set(names)) == len(names)
    assert [attack.name for attack in attacks_named(["layer-key"])] == ["layer-key"]
    with pytest.raises(ValueError, match="there is no attack 'layer'"):
        attacks_named(["layer"])


def test_no_view_holds_a_secret_but_the_colluders() -> None:
    """Walk through all that a view refers to."""
    world = morphed_world(natural_pixels(24))
    views = [
        world.outsider("north"),
        world.outsider_with_pairs("north", 3),
        world.compute_node(),
        world.compute_node_with_stem(),
    ]
    for view in views:
        held = list(reachable(view))
        assert not [one for one in held if isinstance(one, MorphKey | LabelledImages)]
    keys = [one for one in reachable(world.colluding_compute("south")) if isinstance(one, MorphKey)]
    assert keys == [world.truth.sites["south"].key]


@pytest.mark.parametrize("site", ["north"])
def test_whoever_does_not_know_the_stem_can_not_draw_it_from_the_plan(site: str) -> None:
    world = morphed_world(natural_pixels(24))
    for view in (world.outsider(site), world.compute_node(), world.colluding_compute("south")):
        assert view.plan.model.stem_seed == "" and view.plan.stem_digest == ""
    assert world.compute_node_with_stem().plan.model.stem_seed


def test_known_pairs_are_not_among_the_pictures_to_recover() -> None:
    view = morphed_world(natural_pixels(24)).outsider_with_pairs("north", 5)
    assert len(view.pairs) == 5
    assert view.morphed.numbers_N.tolist() == list(range(5, 12))


@pytest.mark.parametrize(("codec", "ranks"), [("q6", 1), ("f16", 2), ("f32", 3)])
def test_the_caches_are_read_as_the_compute_node_wrote_them(codec: str, ranks: int, tmp_path: Path) -> None:
    """Two sites, the test split between them, a sample that came twice, a torn end; the ranks share the samples."""
    world = morphed_world(natural_pixels(24), morph=MorphSettings(tile=8), codec=codec)
    sites = tuple(dataclasses.replace(site, test_images=2) for site in world.plan.sites)
    plan, how = dataclasses.replace(world.plan, sites=sites), codec_named(codec)
    geometry = plan.geometry
    paths = [tmp_path / f"cache-{rank}.bin" for rank in range(ranks)]
    caches = [SampleCache(path, CacheShape.of(plan), CACHE_SECRET) for path in paths]
    for number, site in enumerate(("north", "south")):
        morphed = world.sites[site]
        for places, rank in itertools.product((slice(5, 12), slice(0, 6)), range(ranks)):
            share = np.arange(12)[places][(12 * number + np.arange(12)[places]) % ranks == rank]
            batch = Batch(how.encode(morphed.t_NKQ[share].numpy()), morphed.labels_N[share].astype(np.uint16))
            numbers_B = 12 * number + morphed.numbers_N[share]
            caches[rank].append(common_pb2.SPLIT_TRAIN, numbers_B, batch, key=number)
        untold = Batch(how.encode(morphed.t_NKQ[:2].numpy()), np.empty(0, np.uint16))
        caches[-1].append(common_pb2.SPLIT_TEST, np.array([2 * number, 2 * number + 1]), untold, key=number)
    with paths[0].open("ab") as file:
        file.write(paths[0].read_bytes()[:100])
    found = read_caches([(path, LayerList("00" * 32), CACHE_SECRET) for path in paths], plan)
    for site in ("north", "south"):
        t_NKQ = how.decode(found[site].coded, geometry.blocks)
        assert found[site].numbers_N.tolist() == list(range(12))
        assert (t_NKQ == world.sites[site].t_NKQ).all()
        assert found[site].labels_N.tolist() == world.sites[site].labels_N.tolist()
        assert found[site].epoch == 1


def test_another_plans_cache_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache.bin").write_bytes(b"something else entirely, long enough for a header")
    with pytest.raises(ValueError, match="damaged"):
        read_caches(
            [(tmp_path / "cache.bin", LayerList("00" * 32), CACHE_SECRET)], morphed_world(natural_pixels(24)).plan
        )


def reachable(one: object) -> list[object]:
    """An object and all that its fields, items and values lead to."""
    if dataclasses.is_dataclass(one):
        inner = [getattr(one, field.name) for field in dataclasses.fields(one)]
    elif isinstance(one, dict):
        inner = list(one.values())
    elif isinstance(one, tuple | list):
        inner = list(one)
    else:
        inner = []
    return [one, *(found for part in inner for found in reachable(part))]


def test_a_layer_that_is_larger_than_the_plans_is_not_even_hashed(tmp_path: Path) -> None:
    plan = small_plan()
    digest = "ab" * 32
    write_list(tmp_path, LayerList(plan.sha256().hex(), {site.name: digest for site in plan.sites}))
    (tmp_path / f"{digest}.safetensors").touch()
    layers = run_views.LayerFiles(tmp_path, plan, {"north": 1}, {})
    with pytest.raises(RunFolderError, match="is missing or damaged"):
        layers["north"]
    os.truncate(tmp_path / f"{digest}.safetensors", 1 << 40)
    with pytest.raises(RunFolderError, match="has 1,099,511,627,776 bytes"):
        layers["north"]


def test_a_list_that_names_a_key_of_another_site_is_refused(tmp_path: Path) -> None:
    plan = small_plan()
    digest = "ab" * 32
    rotated = RotatedLayer("../evil", 2, digest, digest)
    layers = {site.name: digest for site in plan.sites}
    write_list(tmp_path, LayerList(plan.sha256().hex(), layers, (rotated,)))
    with pytest.raises(ValueError, match="the plan has no site"):
        list_of_finished(tmp_path, plan)
