"""A run whose site reads a PACS that is killed meanwhile ends with the network of one that reads the same files."""

from __future__ import annotations

import dataclasses
import json
import shutil
import threading
import time
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

pytest.importorskip("dicomweb_client")
from mple.data import DataSource
from mple.data.dicom import DicomSource
from mple.data.dicomweb.cache import SUMS
from mple.data.dicomweb.source import DicomWebSource
from mple.records.run_folder import RunFolder
from mple.records.state_files import LOG
from mple.simulate.laying_out import lay_out
from mple.simulate.runner import run_nodes
from mple.simulate.settings import SimulationSettings
from tests.support.orthanc import Orthanc, missing_orthanc, running_orthanc
from tests.support.pacs import make_instances, write_table
from tests.support.small_consortium import small_settings

INSTANCES, BEFORE_KILL = 200, 30


@pytest.mark.skipif(bool(missing_orthanc()), reason=missing_orthanc())
def test_the_same_network_over_dicomweb_as_from_a_folder(tmp_path: Path) -> None:
    made = make_instances(tmp_path / "made", INSTANCES // 4, per_series=4, side=28)
    labels = ["ab"[place % 3 == 0] for place in range(INSTANCES)]
    files = [{"file": one.path.name, "label": label} for one, label in zip(made, labels, strict=True)]
    keys = [{"SOPInstanceUID": one.uid, "StudyInstanceUID": one.study, "label": label}
            for one, label in zip(made, labels, strict=True)]  # fmt: skip
    folder = DicomSource(path=made[0].path.parent, label_file=write_table(tmp_path / "files.csv", files))
    first = _run(tmp_path / "folder", folder)
    cache = tmp_path / "cache"
    with running_orthanc(tmp_path / "orthanc") as server:
        server.upload(*(one.path for one in made))
        source = DicomWebSource(
            url=server.url,
            path=cache,
            label_file=write_table(tmp_path / "keys.csv", keys),
            password_file=server.password_file,
            patience_s=60.0,
        )
        killer = threading.Thread(target=_kill_and_start, args=(server, cache / SUMS))
        killer.start()
        second = _run(tmp_path / "pacs", source, first)
        killer.join()
    assert _network(first) == _network(second)
    log = [json.loads(line) for line in (second.state("north") / LOG).read_text().splitlines()]
    told = [line["text"] for line in log if line["event"] == "fetch"]
    assert any("Connection refused; next try in" in text for text in told)
    assert told[-1] == f"fetched: {INSTANCES} of {INSTANCES}"
    kept = {path.stem: path.read_bytes() for path in cache.rglob("*.dcm")}
    assert kept == {one.uid: one.path.read_bytes() for one in made}


def _run(out: Path, source: DataSource, like: RunFolder | None = None) -> RunFolder:
    """A run of one site; with the id and the secrets of another one."""
    small = small_settings(out, epochs=1, sites=("north",))
    settings: SimulationSettings = dataclasses.replace(small, data=source)
    folder = lay_out(out, settings, run_id=like.plan().run_id if like else "")
    if like is not None:
        shutil.copytree(like.vault_folder("north"), folder.vault_folder("north"))
    assert run_nodes(folder, settings, Console(file=StringIO()), plain=True) is not None
    return folder


def _network(folder: RunFolder) -> str:
    return str(json.loads((folder.path / "summary.json").read_text())["model_sha256"])


def _kill_and_start(server: Orthanc, sums: Path) -> None:
    """End the server once some instances are there, and start it again a while later."""
    give_up_at = time.monotonic() + 60.0
    while not (sums.exists() and sums.read_bytes().count(b"\n") >= BEFORE_KILL):
        assert time.monotonic() < give_up_at
        time.sleep(0.002)
    server.kill()
    assert sums.read_bytes().count(b"\n") < INSTANCES
    time.sleep(1.0)
    server.start()
