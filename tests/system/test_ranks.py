"""A compute node of several ranks, each with a port, cache and ledger of its own, in whole runs of real processes."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mple.cli import main
from mple.exit_codes import ExitCode
from mple.meter import Direction, Ledger
from mple.meter.ledger_reading import opened_ledger
from mple.plan import ComputeSettings, Custody, SitePlan, SiteSettings, read_settings, write_settings
from mple.records.run_folder import COMPUTE, COORDINATOR, RunFolder
from mple.report.summary import read_summary
from mple.rpc.tls import split_address
from mple.simulate.children import Children, command
from mple.simulate.laying_out import lay_out
from tests.support.small_consortium import small_settings, start_node, wait_for_end, write_pictures
from tests.system.test_chaos import disturbable, report_of

RANKS = 2


def test_ranks_take_in_their_shares_and_the_ledgers_match_over_all(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """In escrow custody, under a codec with bases: each rank has each site's, once."""
    pictures = write_pictures(tmp_path / "set.npz", train=96, test=14)
    settings = small_settings(pictures, epochs=1, most_val=5, custody=Custody.ESCROW, codec="k6")
    config, out = tmp_path / "simulation.toml", tmp_path / "run"
    config.write_text(write_settings(settings), encoding="utf-8")
    assert main(["simulate", str(config), "--ranks", str(RANKS), "--plain", "--out", str(out)]) == ExitCode.DONE
    assert f"training by {RANKS} ranks: " in capfd.readouterr().out
    summary = read_summary(out)
    plan, folder = summary.plan, summary.folder
    assert summary.balance.whole
    assert (plan.training.ranks, json.loads((out / "summary.json").read_text())["compute"]["ranks"]) == (RANKS, RANKS)
    for rank, state in enumerate(folder.compute_states):
        with Ledger(state / "ledger.sqlite", "compute/compute") as ledger:
            received = [ledger.samples(plan.run_id, f"site/{site.name}", Direction.RECEIVED) for site in plan.sites]
        assert received == due_from_sites(plan.sites, rank)
        bases = [path.stat().st_size - 32 for path in sorted((state / "layers").glob("basis-*-1.bin"))]
        assert len(bases) == len(plan.sites)
        assert received_bases(state) == sum(bases)
    assert summary.overhead.sum("basis_bytes") == RANKS * sum(bases)


def received_bases(state: Path) -> int:
    """Payload of a rank's messages of this kind."""
    with opened_ledger(state / "ledger.sqlite") as ledger:
        (size,) = ledger.execute("SELECT SUM(payload_bytes) FROM messages WHERE kind = 'basis'").fetchone()
    return int(size)


def due_from_sites(sites: tuple[SitePlan, ...], rank: int) -> list[int]:
    """Of each site: numbers count a split's samples over all sites, and every second one is a rank's."""
    due, starts = [], [0, 0, 0]
    for site in sites:
        splits = (site.train_images, site.val_images, site.test_images)
        numbers = [range(start, start + images) for start, images in zip(starts, splits, strict=True)]
        due.append(sum(number % RANKS == rank for split in numbers for number in split))
        starts = [start + images for start, images in zip(starts, splits, strict=True)]
    return due


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("ranks", "kills", "custody"), [(2, 6, Custody.ESCROW), (3, 7, Custody.SITE)])
def test_whichever_rank_is_killed_the_network_is_the_undisturbed_runs(
    tmp_path: Path, ranks: int, kills: int, custody: Custody
) -> None:
    """Every node and every rank is killed once, by a schedule that a seed gives, and links to all ranks are cut. In
    escrow custody, whose channel order is drawn anew, no run can be compared with."""
    settings = disturbable(tmp_path, epochs=6)
    settings = replace(settings, custody=custody, wire=replace(settings.wire, codec="k6"))
    # Ranks that are started again import torch first: of several kills in a row the sites see one long absence.
    settings = replace(settings, machine=replace(settings.machine, idle_timeout_s=600.0))
    config, out = tmp_path / "simulation.toml", tmp_path / "run"
    config.write_text(write_settings(settings), encoding="utf-8")
    options = ["--ranks", str(ranks), "--chaos", "5", "--kills", str(kills), "--stops", "1", "--cuts", "2"]
    options += ["--starves", "0", "--unnames", "0", "--plain", "--out", str(out)]
    options += ["--no-repeat"] * (custody is Custody.ESCROW)
    assert main(["simulate", str(config), *options]) == ExitCode.DONE
    report = report_of(out)
    assert report["proven"]
    killed = {node for fault in report["faults"] if fault["kind"] == "kill" for node in fault["nodes"]}  # type: ignore[attr-defined]
    assert killed == {COORDINATOR, COMPUTE, "north", "south", *(f"rank {rank} of compute" for rank in range(ranks))}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    settings = small_settings(write_pictures(tmp_path / "set.npz", train=60, test=6))
    return lay_out(tmp_path / "run", replace(settings, training=replace(settings.training, ranks=RANKS)))


def change_site(folder: RunFolder, name: str, change: Callable[[SiteSettings], SiteSettings]) -> None:
    settings = read_settings(SiteSettings, folder.config(name))
    folder.config(name).write_text(write_settings(change(settings)), encoding="utf-8")


def words_of(folder: RunFolder, name: str, code: ExitCode) -> str:
    """What a node says when all are started and it is the one that can't go on."""
    with Children(5.0) as children:
        for node in folder.nodes:
            start_node(children, folder, node)
        assert wait_for_end(children, {name}, timeout_s=120.0)[name] == code
    return folder.log_text(name).read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_site_with_too_few_addresses_says_so(folder: RunFolder) -> None:
    change_site(folder, "south", lambda site: replace(site, compute_ranks=()))
    words = words_of(folder, "south", ExitCode.RUN_FAILED)
    assert "the plan has training.ranks = 2, this site's file has 1 address of the compute node" in words
    assert "fix: name those of ranks 1 to 1 in compute_ranks" in words


@pytest.mark.slow
def test_a_site_with_addresses_in_another_order_says_so(folder: RunFolder) -> None:
    def swapped(site: SiteSettings) -> SiteSettings:
        return replace(site, compute=site.compute_ranks[0], compute_ranks=(site.compute,))

    change_site(folder, "south", swapped)
    words = words_of(folder, "south", ExitCode.RUN_FAILED)
    assert "site south means rank 0 of the compute node, this is rank 1" in words or (
        "site south means rank 1 of the compute node, this is rank 0" in words
    )
    assert "name the ranks' addresses in their order: compute, then compute_ranks" in words


@pytest.mark.slow
def test_a_compute_node_of_another_number_of_ranks_is_refused(folder: RunFolder) -> None:
    with Children(5.0) as children:
        start_node(children, folder, COORDINATOR)
        alone = [*command("mple-compute"), "serve", str(folder.config(COMPUTE))]
        children.start(COMPUTE, alone, log_text=folder.log_text(COMPUTE), threads=1)
        assert wait_for_end(children, {COMPUTE})[COMPUTE] == ExitCode.RUN_FAILED
    words = folder.log_text(COMPUTE).read_text(encoding="utf-8")
    assert "the run has training.ranks = 2, the compute node joins with 1" in words
    assert "fix: start it with torchrun --nproc-per-node=2 -m compute_node serve" in words


@pytest.mark.slow
def test_a_port_that_is_taken_at_one_rank_is_named(folder: RunFolder) -> None:
    host, port = split_address(read_settings(ComputeSettings, folder.config(COMPUTE)).listen)
    with socket.create_server((host, port + 1)):
        words = words_of(folder, COMPUTE, ExitCode.BAD_USAGE)
    assert f"can't listen on {host}:{port + 1}: another program has the port" in words
