"""The list of a run's layers: it comes back as it was written, and nothing damaged or foreign is taken for it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mple.disk.damage import with_checksum, without_checksum
from mple.disk.json_records import record_from_json, record_to_json
from mple.records.layer_list import LayerList, RevokedKey, RotatedLayer, list_of_finished, read_list, write_list
from tests.support.small_plan import small_plan

PLAN = small_plan()
OURS = PLAN.sha256().hex()
NAMES, DIGESTS = st.text(min_size=1), st.binary(min_size=32, max_size=32).map(bytes.hex)
LISTS = st.builds(
    LayerList,
    plan_sha256=DIGESTS,
    layers=st.dictionaries(NAMES, DIGESTS),
    rotated=st.lists(st.builds(RotatedLayer, NAMES, st.integers(1), DIGESTS, DIGESTS)).map(tuple),
    revoked=st.lists(st.builds(RevokedKey, NAMES, st.integers(1), st.integers(0), st.integers(0), st.booleans())).map(
        tuple
    ),
)


@given(LISTS)
def test_a_list_comes_back(listed: LayerList) -> None:
    assert record_from_json(LayerList, record_to_json(listed), "here") == listed


def test_the_fields_of_the_file(tmp_path: Path) -> None:
    listed = LayerList(
        "ab" * 32,
        {"north": "cd" * 32},
        (RotatedLayer("north", 2, "ef" * 32, "01" * 32),),
        (RevokedKey("north", 1, 5, 7, erased=True),),
    )
    write_list(tmp_path / "layers", listed)
    assert json.loads((tmp_path / "layers" / "run.json").read_text()) == {
        "plan_sha256": "ab" * 32,
        "layers": {"north": "cd" * 32},
        "rotated": [{"site": "north", "epoch": 2, "fingerprint": "ef" * 32, "sha256": "01" * 32}],
        "revoked": [{"site": "north", "epoch": 1, "samples": 5, "layer_bytes": 7, "erased": True}],
        "checksum": hashlib.sha256((tmp_path / "layers" / "run.json").read_bytes().rpartition(b",")[0]).hexdigest(),
    }
    assert listed.layer_of("north", 2) == bytes.fromhex("01" * 32)
    assert listed.layer_of("north", 1) == bytes.fromhex("cd" * 32)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"plan_sha256": "xyz"}, r"run\.json is damaged: \[top level\] 'xyz' is not hexadecimal"),
        (
            {"layers": {"north": "AB" * 32}},
            r"run\.json is damaged: \[top level\] 'AB.*' is not hexadecimal in lower case",
        ),
        ({"rotated": [{"site": "north"}]}, r"run\.json is damaged: rotated\[0\]\.epoch is missing"),
        ({"revoked": [{"site": 3}]}, r"run\.json is damaged: revoked\[0\]\.site = 3 is not a text"),
        ({"more": 1}, r"run\.json is damaged: unknown key more"),
    ],
)
def test_a_damaged_list_is_refused(tmp_path: Path, change: dict[str, object], sentence: str) -> None:
    write_list(tmp_path, LayerList(OURS))
    path = tmp_path / "run.json"
    raw = json.loads(without_checksum(path.read_bytes(), path)) | change
    path.write_bytes(with_checksum(json.dumps(raw).encode()))
    for read in (read_list, list_of_finished):
        with pytest.raises(ValueError, match=sentence):
            read(tmp_path, PLAN)


def test_another_plans_list_is_none_of_ours(tmp_path: Path) -> None:
    write_list(tmp_path, LayerList("ab" * 32, {"north": "cd" * 32}))
    assert read_list(tmp_path, PLAN) == LayerList(OURS)
    with pytest.raises(ValueError, match="lists the layers of plan abab"):
        list_of_finished(tmp_path, PLAN)


def test_a_finished_run_lists_every_site(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"run\.json can't be read: No such file"):
        list_of_finished(tmp_path, PLAN)
    write_list(tmp_path, LayerList(OURS, {"north": "cd" * 32}))
    with pytest.raises(ValueError, match="site south is missing"):
        list_of_finished(tmp_path, PLAN)
