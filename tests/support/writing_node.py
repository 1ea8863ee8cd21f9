"""A node that writes until its disk is full, or opens files until it has no descriptors left: run as a process by the
tests of how a node ends then."""

import resource
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from mple.audit import audit
from mple.disk.damage import DamagedError
from mple.node import run_node
from mple.node.logs import log
from mple.node.retry import StoppedError
from mple.node.session import open_node
from mple.node.stop import Stop
from mple.plan import MonitoringSettings
from mple.rpc import Role
from tests.support.ledger_entries import SENT, entry


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The node's configuration file."""

    state: Path
    tls: Path
    what: str
    writes: int
    most_bytes: int
    monitoring: MonitoringSettings = field(default_factory=MonitoringSettings)


def body(settings: Settings, stop: Stop) -> None:
    """What fails when there is no room: the trail, the log, a file, the ledger, or a fault of the code."""
    with open_node(settings, Role.SITE, "serve", stop) as node:
        if settings.most_bytes:
            limits = (settings.most_bytes, resource.RLIM_INFINITY)
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        held: list[TextIO] = []
        for number in range(settings.writes):
            if settings.what == "audit":
                audit("local", "beat", "ok", number=number)
            elif settings.what == "log":
                log("beat", "x" * 1000)
                if stop.is_set():
                    raise StoppedError
            elif settings.what == "file":
                (settings.state / "cache.bin").open("ab").write(bytes(10_000))
            elif settings.what == "descriptors":
                if not number:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
                held.append((settings.state / f"{number}").open("w"))
            elif settings.what == "damage":
                raise DamagedError(settings.state / "plan.json", "is damaged", "put it back")
            elif settings.what == "ledger":
                node.ledger.record(entry(SENT, "call", number))
            else:
                node.ledger.record(None)  # type: ignore[arg-type]  # the fault


if __name__ == "__main__":
    sys.exit(run_node("mple-test", "serve", Settings, body, sys.argv[1:]))
