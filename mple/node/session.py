"""A node's life, the same for all: a state folder of its own first, then log, audit trail, ledger and monitoring.

Whoever finds the folder taken is refused before it has written a line there. What a node needs to reach the others
(its certificate, its ledger, the wish that it end) goes together from then on.
"""

import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mple import __version__
from mple.audit import close_audit, open_audit
from mple.disk.damage import DamagedError
from mple.disk.locks import claim
from mple.disk.storage_faults import noted_storage_fault, raise_storage_fault, storage_fault_of
from mple.exit_codes import ExitCode
from mple.meter import Ledger
from mple.node.certificate_age import watch_certificate
from mple.node.coordinator_client import CoordinatorClient
from mple.node.ending import exit_code_of
from mple.node.logs import open_log
from mple.node.preload import OF_ALL, preload
from mple.node.retry import RetryPolicy
from mple.node.run_follower import RunFollower
from mple.node.stop import Stop
from mple.plan.node_settings import NodeSettings
from mple.records.state_files import LEDGER
from mple.rpc import Party, Role, TlsFiles, grpc_running, open_channel, own_party, verify_remote
from mple.rpc.metering import MeteredChannel
from mple.rpc.tls import probe_for

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.registry import Collector

_PROGRAMS = {Role.COORDINATOR: "mple-coordinator", Role.COMPUTE: "mple-compute", Role.SITE: "mple-provider"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Remote:
    """A party that was found at its address, by its certificate."""

    party: Party
    retry: RetryPolicy
    """For calls to it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeSession:
    """A node that lives; see `open_node`."""

    me: Party
    tls: TlsFiles
    ledger: Ledger
    registry: "CollectorRegistry | None"
    """Of the monitoring endpoint; None where there is none."""
    stop: Stop

    def show(self, collector: "Collector") -> None:
        """Have the endpoint serve what a collector of metrics says, too, where there is one."""
        if self.registry is not None:
            self.registry.register(collector)

    def find(self, address: str, role: Role, budget_s: float, *, name: str = "") -> Remote:
        """Wait until a party of a role, and of a name where one is given, answers at an address, within a budget of so
        many seconds.

        Raises UnreachableError, StoppedError: as `RetryPolicy.call`.
        """
        retry = RetryPolicy.to(address, self.tls, self.stop, budget_s)
        party = retry.call(functools.partial(verify_remote, address, self.tls, role, name=name))
        explain = functools.partial(probe_for, party, address, self.tls)
        return Remote(party=party, retry=replace(retry, explain=explain))

    def channel(self, remote: Remote) -> MeteredChannel:
        """A channel to a party, as a context manager; this node's ledger gets every message."""
        return open_channel(remote.retry.address, self.tls, remote.party, self.ledger)

    def follow(self, client: CoordinatorClient) -> RunFollower:
        """The run's events, as a context manager around the node's part in it."""
        return RunFollower(client, self.ledger, self.stop)


@contextmanager
def open_node(
    settings: NodeSettings, role: Role, verb: str, stop: Stop, *, beside: bool = False
) -> Iterator[NodeSession]:
    """Begin a node's life in its state folder, which is made at first use; it ends with the block.

    Args:
        settings: The node's configuration.
        role: What its certificate must make it.
        verb: What it was started for.
        stop: Set when it is to end.
        beside: The verb runs beside the node that the folder may belong to just now: it neither claims the folder nor
            opens the monitoring endpoint.

    Raises ValueError: another process has the folder, or configuration or certificates can't be used; OSError: the disk
    refuses.
    """
    with ExitStack() as opened:
        preload(OF_ALL)
        opened.enter_context(grpc_running())
        if not beside:
            opened.enter_context(claim(settings.state, _PROGRAMS[role]))
        elif not settings.state.is_dir():
            raise ValueError(f"no state folder at {settings.state}; take part in a run first")
        tls = TlsFiles.in_directory(settings.tls)
        me = own_party(tls, role)
        open_log(settings.state, me.name)
        watch_certificate(tls, stop)
        opened.enter_context(_audited(settings.state, me, verb))
        ledger = opened.enter_context(Ledger(settings.state / LEDGER, me.label))
        registry = None
        if settings.monitoring.listen and not beside:
            from mple.node.monitoring import monitored  # 3 MB of memory

            registry = opened.enter_context(monitored(settings.monitoring, me, tls, ledger))
        yield NodeSession(me=me, tls=tls, ledger=ledger, registry=registry, stop=stop)


@contextmanager
def _audited(state: Path, me: Party, verb: str) -> Iterator[None]:
    """An audit trail of a whole life: its first line, how it ended, and the refusals that are not told yet."""
    trail = open_audit(state, me.label)

    def end(code: ExitCode) -> None:
        trail.tell_rest()
        trail.append("local", "node_stop", "ok" if code is ExitCode.DONE else code.name, verb=verb, exit_code=int(code))

    try:
        trail.append("local", "node_start", "ok", verb=verb, version=__version__)
        yield
        raise_storage_fault()
        end(ExitCode.DONE)
    except Exception as fault:
        own = noted_storage_fault() or storage_fault_of(fault)
        if own is None or isinstance(own, DamagedError):  # what can't be written, the trail can't have either
            end(exit_code_of(own or fault))
        raise
    finally:
        close_audit()
