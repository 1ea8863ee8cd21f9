"""Nodes that can't take part say why in one sentence and end with the documented code; nobody hangs."""

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compute_node.command import main as compute_main
from coordinator.node import main as coordinator_main
from mple.exit_codes import ExitCode
from mple.pki import throwaway
from mple.plan import CoordinatorSettings, SiteSettings, read_settings, write_settings
from mple.records.run_folder import COMPUTE, COORDINATOR, RunFolder
from mple.rpc import Party, Role
from mple.simulate.children import Children
from mple.simulate.laying_out import lay_out
from provider_node.node import main as provider_main
from tests.support.small_consortium import small_settings, start_node, wait_for_end, wait_for_text, write_pictures

RunAlone = Callable[[str], tuple[int, str]]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return lay_out(tmp_path / "run", small_settings(write_pictures(tmp_path / "set.npz", train=30, test=6)))


def last_line(folder: RunFolder, name: str) -> str:
    return folder.log_text(name).read_text().strip().splitlines()[-1]


@pytest.fixture
def run_alone(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> RunAlone:
    """Runs a node's command in this process: its exit code, and the last that it says."""

    def run(name: str) -> tuple[int, str]:
        main, verb = {
            COORDINATOR: (coordinator_main, "serve"),
            COMPUTE: (compute_main, "serve"),
        }.get(name, (provider_main, "run"))
        code = main([verb, str(folder.config(name))])
        return code, capsys.readouterr().err.strip().splitlines()[-1]

    return run


def give_pictures(folder: RunFolder, site: str, path: Path) -> None:
    settings = read_settings(SiteSettings, folder.config(site))
    folder.config(site).write_text(write_settings(replace(settings, data=replace(settings.data, path=path))))


def test_an_unknown_key_is_named_with_its_nearest_neighbour(folder: RunFolder, run_alone: RunAlone) -> None:
    path = folder.config("north")
    path.write_text("thraeds = 2\n" + path.read_text())
    code, text = run_alone("north")
    assert code == ExitCode.BAD_USAGE
    assert "thraeds" in text
    assert "did you mean threads?" in text


def test_a_busy_port_is_named(folder: RunFolder, run_alone: RunAlone) -> None:
    listen = read_settings(CoordinatorSettings, folder.config(COORDINATOR)).listen
    host, port = listen.split(":")
    with socket.create_server((host, int(port))):
        code, text = run_alone(COORDINATOR)
    assert code == ExitCode.BAD_USAGE
    assert listen in text


def test_a_missing_certificate_is_named(folder: RunFolder, run_alone: RunAlone) -> None:
    (folder.node("north") / "tls" / "node.crt").unlink()
    code, text = run_alone("north")
    assert code == ExitCode.BAD_USAGE
    assert "node.crt" in text
    assert "mple pki" in text


def test_a_corrupted_data_file_is_named(folder: RunFolder, run_alone: RunAlone, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.npz"
    whole = (tmp_path / "set.npz").read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    give_pictures(folder, "north", damaged)
    code, text = run_alone("north")
    assert code == ExitCode.BAD_USAGE
    assert "damaged.npz" in text


def test_an_empty_site_says_so(folder: RunFolder, run_alone: RunAlone, tmp_path: Path) -> None:
    empty = tmp_path / "empty.npz"
    nothing, labels = np.zeros((0, 28, 28, 3), np.uint8), np.zeros(0, np.int64)
    np.savez(empty, x_train=nothing, y_train=labels, x_test=nothing, y_test=labels)
    give_pictures(folder, "north", empty)
    code, text = run_alone("north")
    assert code == ExitCode.BAD_USAGE
    assert "image" in text


def test_a_foreign_certificate_is_refused_and_explained(folder: RunFolder, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    throwaway(tmp_path / "other", [Party("simulation", Role.SITE, "north")], ["127.0.0.1"], [foreign])
    tls = folder.node("north") / "tls"
    for path in tls.iterdir():
        path.unlink()
    for path in foreign.iterdir():
        path.rename(tls / path.name)
    with Children(2.0) as children:
        start_node(children, folder, COORDINATOR)
        start_node(children, folder, "north")
        codes = wait_for_end(children, {"north"})
    assert codes["north"] == ExitCode.UNREACHABLE
    assert "authority" in last_line(folder, "north")


def test_a_site_with_another_shape_ends_the_run_for_itself_with_the_reason(folder: RunFolder, tmp_path: Path) -> None:
    give_pictures(folder, "south", write_pictures(tmp_path / "larger.npz", train=30, test=6, side=32))
    with Children(2.0) as children:
        start_node(children, folder, COORDINATOR)
        start_node(children, folder, "north")
        wait_for_text(folder.log_text("north"), "joined run")
        start_node(children, folder, "south")
        codes = wait_for_end(children, {"south"})
        assert "north" in children.running
        assert COORDINATOR in children.running
    assert codes["south"] == ExitCode.RUN_FAILED
    assert "3 x 32 x 32" in last_line(folder, "south")
    assert "3 x 28 x 28" in last_line(folder, "south")


def test_a_compute_node_without_a_coordinator_gives_up_with_the_reason(folder: RunFolder, run_alone: RunAlone) -> None:
    path = folder.config(COMPUTE)
    path.write_text(path.read_text().replace("idle_timeout_s = 60.0", "idle_timeout_s = 1.0"))
    code, text = run_alone(COMPUTE)
    assert code == ExitCode.UNREACHABLE
    assert "did not answer" in text or "refused" in text
