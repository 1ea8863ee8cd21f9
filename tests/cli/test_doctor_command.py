"""`mple doctor` as it is typed: both ways to call it, its two forms of output, its exit codes."""

from __future__ import annotations

import json
import shutil
import socket
from contextlib import closing
from pathlib import Path

import pytest

from mple.cli import main
from mple.exit_codes import ExitCode
from mple.rpc import Party, Role
from mple.rpc.node_service import add_node_service
from tests.support.served import PartyTls, Served

SITE = """
state = "state"
tls = "{tls}"
vault = "vault"
coordinator = "{coordinator}"
compute = "{compute}"
[data]
kind = "cifar10"
"""


@pytest.fixture
def coordinator(served: Served) -> str:
    add_node_service(served.rpc.server, Party("test", Role.COORDINATOR, "coordinator"))
    return served.address


@pytest.fixture
def closed() -> str:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_site_and_its_peers(
    coordinator: str, closed: str, party_tls: PartyTls, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tls = party_tls(Role.SITE, "north").key.parent
    config = tmp_path / "north.toml"
    config.write_text(SITE.format(tls=tls, coordinator=coordinator, compute=closed))
    assert main(["doctor", str(config)]) == ExitCode.UNREACHABLE
    said = capsys.readouterr().out
    assert "sound configuration of a site node" in said
    assert f"coordinator at {coordinator}\n" in said
    assert "  ok    answer     coordinator/coordinator answers" in said
    assert f"compute at {closed}\n" in said
    assert f"  fault port       nothing listens at {closed}" in said
    assert "-> start the node there" in said
    assert "not looked at: tls, certificate, admission" in said
    assert said.splitlines()[-1] == "1 fault"
    assert [path.name for path in tmp_path.iterdir() if path.name in ("state", "vault")] == []


def test_one_peer_as_json(coordinator: str, party_tls: PartyTls, capsys: pytest.CaptureFixture[str]) -> None:
    tls = str(party_tls(Role.SITE, "north").key.parent)
    assert main(["doctor", "--peer", coordinator, "--tls", tls, "--json"]) == ExitCode.DONE
    told = json.loads(capsys.readouterr().out)
    assert told["exit_code"] == 0
    own, peer = told["examined"]
    assert (own["own"], peer["own"]) == (True, False)
    assert {finding["severity"] for finding in peer["findings"]} == {"ok"}
    assert set(peer["findings"][0]) == {"step", "severity", "cause", "fix"}


def test_a_fault_of_this_node_outweighs_one_of_a_peer(
    coordinator: str, party_tls: PartyTls, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(party_tls(Role.SITE, "north").key.parent, tmp_path / "tls")
    (tmp_path / "tls" / "node.crt").unlink()
    assert main(["doctor", "--peer", coordinator, "--tls", str(tmp_path / "tls")]) == ExitCode.BAD_USAGE
    assert "2 faults" in capsys.readouterr().out


def test_a_role_that_the_peer_has_not(
    coordinator: str, party_tls: PartyTls, capsys: pytest.CaptureFixture[str]
) -> None:
    tls = str(party_tls(Role.SITE, "north").key.parent)
    assert main(["doctor", "--peer", coordinator, "--tls", tls, "--role", "compute"]) == ExitCode.UNREACHABLE
    assert "role compute is needed" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a.toml", "--peer", "a:1"],
        ["--peer", "a:1"],
        ["--tls", "x"],
        ["a.toml", "--role", "site"],
        ["absent.toml"],
        ["--peer", "a:1", "--tls", "x", "--timeout", "0"],
    ],
)
def test_mistakes(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *arguments]) == ExitCode.BAD_USAGE
    sentence, *fix = capsys.readouterr().err.splitlines()
    assert sentence.startswith("mple: ")
    assert fix in ([], ["mple: fix: see mple doctor --help"])
