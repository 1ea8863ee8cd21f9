"""Nodes that are killed while the network is delivered: every site has it in the end, the one that was scored."""

from __future__ import annotations

from pathlib import Path

import pytest

from mple.delivered.check import Verdict
from mple.delivered.folder import DeliveredNetwork
from mple.disk.json_records import read_record
from mple.exit_codes import ExitCode
from mple.plan import DeliverTo
from mple.records.run_folder import COMPUTE
from mple.records.state_files import NETWORK, OUTCOME
from mple.records.training import Outcome
from mple.report import summarise
from mple.simulate.children import Children
from mple.simulate.laying_out import lay_out
from tests.support.small_consortium import small_settings, start_node, wait_for_end, wait_until, write_pictures


@pytest.mark.slow
@pytest.mark.parametrize("killed", [(COMPUTE,), ("south",), (COMPUTE, "south")], ids=" and ".join)
def test_a_kill_of_either_side_delivers_the_same_network(tmp_path: Path, killed: tuple[str, ...]) -> None:
    pictures = write_pictures(tmp_path / "set.npz", train=120, test=30)
    folder = lay_out(tmp_path / "run", small_settings(pictures, deliver=DeliverTo.SITES))
    with Children(10.0) as children:
        for name in folder.nodes:
            start_node(children, folder, name)
        wait_until(lambda: any(folder.state(COMPUTE).glob(NETWORK.format("*"))))
        offered = read_record(Outcome, folder.state(COMPUTE) / OUTCOME)
        for name in killed:
            children.kill(name)
        for name in killed:
            start_node(children, folder, name)
        codes = wait_for_end(children, set(folder.nodes), timeout_s=90.0)
    assert set(codes.values()) == {ExitCode.DONE}
    outcome = read_record(Outcome, folder.state(COMPUTE) / OUTCOME)
    assert (outcome.model_sha256, outcome.delivered) == (offered.model_sha256, folder.sites)
    for site in folder.sites:
        record = DeliveredNetwork.at(folder.state(site)).record
        assert record.about.model_sha256 == outcome.model_sha256
        assert record.check.verdict is Verdict.AGREES
    networks = {DeliveredNetwork.at(folder.state(site)).content("model.onnx") for site in folder.sites}
    assert len(networks) == 1, "all sites have the same network, byte for byte"
    for state in map(folder.state, (COMPUTE, *folder.sites)):
        assert not list(state.glob(NETWORK.format("*")))
    assert summarise(folder.path).balance.balanced
