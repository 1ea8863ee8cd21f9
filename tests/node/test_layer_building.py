"""A layer's file and what is said of it."""

from __future__ import annotations

from pathlib import Path

from mple.node.layer_building import build_layer_file, layer_header
from mple.plan.key_refs import key_ref
from tests.support.small_plan import key_of
from tests.support.small_run import SECRET, header_of, layer_bytes, layer_for, plan_for, stem_for


def test_the_file_is_the_layer_of_key_order_and_stem_and_the_header_says_so(tmp_path: Path) -> None:
    plan, path, elsewhere = plan_for(), tmp_path / "north.safetensors", tmp_path / "elsewhere"
    elsewhere.mkdir()
    header = build_layer_file(plan, key_of("north"), key_ref(plan, "north"), SECRET, stem_for(), path)
    expected = layer_bytes(layer_for(plan, "north"), elsewhere)
    assert path.read_bytes() == expected
    assert header == header_of(plan, "north", expected) == layer_header(key_ref(plan, "north"), path)
