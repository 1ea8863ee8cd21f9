"""A node's life: what it leaves behind at its end, however it ends, and that nobody else writes there meanwhile."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mple.audit import FILE_NAME, audit, audit_head, audit_refusal, read_entries, refusals
from mple.audit.call_tally import REFUSED
from mple.disk.locks import claim
from mple.exit_codes import ExitCode
from mple.node.retry import StoppedError, UnreachableError
from mple.node.session import open_node
from mple.node.stop import Stop
from mple.plan import MonitoringSettings
from mple.rpc import ErrorCode, MpleError, Role
from tests.support.served import PartyTls

ODD = MonitoringSettings(listen="no address")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What the configuration files of all nodes have."""

    state: Path
    tls: Path
    monitoring: MonitoringSettings = field(default_factory=MonitoringSettings)


@pytest.fixture(autouse=True)
def _process_as_before() -> Iterator[None]:
    """A node takes over its process's log."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def settings(tmp_path: Path, party_tls: PartyTls) -> Settings:
    tls = tmp_path / "tls"
    shutil.copytree(party_tls(Role.SITE, "north").key.parent, tls)
    return Settings(state=tmp_path / "a" / "state", tls=tls)


def trail(settings: Settings) -> list[tuple[str, str]]:
    return [(entry.what, entry.result) for entry in read_entries(settings.state / FILE_NAME)]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (None, ExitCode.DONE),
        (StoppedError(), ExitCode.INTERRUPTED),
        (MpleError(ErrorCode.RUN_FAILED), ExitCode.RUN_FAILED),
        (UnreachableError("away"), ExitCode.UNREACHABLE),
        (ZeroDivisionError("a fault of ours"), ExitCode.INTERNAL),
    ],
)
def test_the_trail_tells_of_a_life_from_start_to_end(
    settings: Settings, fault: Exception | None, code: ExitCode
) -> None:
    with suppress(type(fault) if fault else ()), open_node(settings, Role.SITE, "run", Stop()) as node:
        assert (node.me.label, node.ledger.phase) == ("site/north", "")
        for _ in range(REFUSED.lines + 2):
            audit_refusal("site/south", "ROLE_NOT_ALLOWED")
        assert refusals() == {("site/south", "ROLE_NOT_ALLOWED"): REFUSED.lines + 2}
        if fault is not None:
            raise fault
    start, *refused, more, stop = read_entries(settings.state / FILE_NAME)
    assert (start.what, start.result, start.facts["verb"]) == ("node_start", "ok", "run")
    assert len(refused) == REFUSED.lines
    assert (more.what, more.facts) == ("refused_more", {"calls": 2, "which": "ROLE_NOT_ALLOWED 2"})
    result = "ok" if code is ExitCode.DONE else code.name
    assert (stop.what, stop.result, stop.facts) == ("node_stop", result, {"verb": "run", "exit_code": int(code)})


def test_nothing_of_a_life_is_left_in_the_process(settings: Settings) -> None:
    with open_node(settings, Role.SITE, "run", Stop()) as node:
        assert node.registry is None, "there is no endpoint but where one is asked for"
    audit("local", "late", "ok")
    assert audit_head() is None
    assert refusals() == {}
    assert trail(settings) == [("node_start", "ok"), ("node_stop", "ok")]
    with claim(settings.state, "another"):
        pass


def test_an_endpoint_that_can_not_be_is_an_end_too(settings: Settings) -> None:
    odd = Settings(state=settings.state, tls=settings.tls, monitoring=ODD)
    with pytest.raises(ValueError, match=r"monitoring\.listen"), open_node(odd, Role.SITE, "run", Stop()):
        pass
    assert trail(settings) == [("node_start", "ok"), ("node_stop", "BAD_USAGE")]


def test_who_finds_the_folder_taken_writes_nothing(settings: Settings) -> None:
    refused = pytest.raises(ValueError, match=r"another program .* works in")
    with claim(settings.state, "program"), refused, open_node(settings, Role.SITE, "run", Stop()):
        pass
    assert sorted(path.name for path in settings.state.iterdir()) == ["node.lock"]


def test_a_verb_beside_the_node_goes_on_with_its_trail(settings: Settings) -> None:
    """It neither claims the folder nor opens the endpoint."""
    beside = Settings(state=settings.state, tls=settings.tls, monitoring=ODD)
    with (
        claim(settings.state, "program"),
        open_node(beside, Role.SITE, "predict", Stop(), beside=True),
    ):
        audit("local", "prediction", "ok")
    assert [what for what, _ in trail(settings)] == ["node_start", "prediction", "node_stop"]


def test_a_verb_beside_a_node_that_never_was(settings: Settings) -> None:
    never = pytest.raises(ValueError, match=r"no state folder at .*; take part in a run first")
    with never, open_node(settings, Role.SITE, "predict", Stop(), beside=True):
        pass
    assert not settings.state.exists()
