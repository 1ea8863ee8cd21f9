"""A simulated run under faults: nodes killed and held, links cut, by a seeded schedule, and all of them got over.

A killed node is started again with the same command. A node that ends by itself with another code than 0 is a failure
of the run, whatever was done to it or to others: nodes have to outlast what happens here. One thing is no failure: a
node that is killed after it has reported its totals has nothing left to do, and finds nobody once the
coordinator has ended; it isn't started again, or is stopped. Another: a node that had no descriptors may end with
`ExitCode.RESOURCES`, as one does whose disk is full, and is started again with the same command. Of a compute node of
several ranks a single one is killed, too; then its launcher starts all of them again.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from mple.exit_codes import ExitCode
from mple.meter.relay import CountingRelay
from mple.node.stop import Stop
from mple.records.run_folder import COMPUTE, COORDINATOR, RunFolder
from mple.records.state_files import LOG
from mple.report import Summary
from mple.report.tables import say
from mple.rpc.identity import rank_label
from mple.rpc.tls import split_address
from mple.simulate.chaos_schedule import ChaosSettings, Fault, FaultKind, Moment, Stage, draw_faults, position
from mple.simulate.children import Children, Ended
from mple.simulate.foresight import foreseen_memory
from mple.simulate.laying_out import lay_out
from mple.simulate.own_names import NAMES, OwnNames
from mple.simulate.processes import processes_of, rank_names
from mple.simulate.progress import Progress
from mple.simulate.run_monitor import RunMonitor
from mple.simulate.runner import first_failure, run_nodes, start_process
from mple.simulate.screen import Screen
from mple.simulate.settings import SimulationSettings

_LOOK_EVERY_S = 0.02
_SHOW_EVERY_S = 0.2
_LEDGER_EVERY_S = 0.2
_LEAVE_S = 5.0
_KILLED = 137
_MORE_RESTARTS = 5
"""Of a compute node's ranks, beyond one for each fault: one that starves may end more than once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InjectedFault:
    """A fault that a run has had."""

    at_s: float
    """Since the first node was started."""
    kind: FaultKind
    nodes: tuple[str, ...]
    stage: Stage
    share: float
    epoch: int
    """Counted from 1; 0 before the first step."""
    step: int
    seconds: float
    """Until a killed node was started again, a held one went on, or a link, a node or a name was as before; 0 for
    ranks, which their launcher starts again."""
    links: int
    """Connections that were cut."""


def simulate_chaos(
    settings: SimulationSettings, chaos: ChaosSettings, out: Path, console: Console, *, plain: bool = False
) -> tuple[Summary, list[InjectedFault]] | None:
    """Run a whole consortium under faults; its summary and the faults that it had, or None when it was interrupted.

    Raises ValueError: the folder is not empty; SimulationError: a node ended by itself with another code than 0.
    """
    sites = [process.name for process in processes_of(settings)[2:]]
    faults = draw_faults(chaos, sites, releases=settings.wire.releases, ranks=tuple(rank_names(settings)))
    with _relays() as relayed:
        relays: dict[str, list[CountingRelay]] = {COORDINATOR: [], COMPUTE: []}

        def dialled(address: str) -> str:
            node = COMPUTE if relays[COORDINATOR] else COORDINATOR
            relays[node].append(relayed(address))
            relay = relays[node][-1].address
            return f"{NAMES[node]}:{split_address(relay)[1]}" if chaos.unnames else relay

        if line := foreseen_memory(settings):
            say(console, line)
        folder = lay_out(out, settings, dialled=dialled)
        names = OwnNames(folder.path / "hosts") if chaos.unnames else None
        injected: list[InjectedFault] = []
        driver = _Disturbed(folder, settings, relays, names, faults, injected).follow

        summary = run_nodes(folder, settings, console, plain=plain, driver=driver, ledger_every_s=_LEDGER_EVERY_S)
    return None if summary is None else (summary, injected)


@contextmanager
def _relays() -> Iterator[Callable[[str], CountingRelay]]:
    """One relay for each address, made when first asked for."""
    made: dict[str, CountingRelay] = {}
    with ExitStack() as closing:

        def relayed(address: str) -> CountingRelay:
            if address not in made:
                made[address] = CountingRelay(*split_address(address))
                closing.callback(made[address].close)
            return made[address]

        yield relayed


class _Disturbed:
    """A run whose processes are killed, held and cut off; where several sites share one, they are hit together."""

    def __init__(
        self,
        folder: RunFolder,
        settings: SimulationSettings,
        relays: Mapping[str, Sequence[CountingRelay]],
        names: OwnNames | None,
        faults: tuple[Fault, ...],
        injected: list[InjectedFault],
    ) -> None:
        self._folder, self._settings, self._relays, self._names = folder, settings, relays, names
        self._due, self._injected = list(faults), injected
        self._now = Moment(Stage.GATHERING, 0.0)
        self._done: set[str] = set()
        self._start_at_s: dict[str, float] = {}
        self._go_on_at_s: dict[str, float] = {}
        self._undo_at_s: list[tuple[float, Callable[[], None]]] = []
        self._starved: set[str] = set()
        self._logged: dict[str, int] = {}
        self._ended_first: list[Ended] = []
        self._processes = {process.name: process for process in processes_of(settings)}
        self._ranks = rank_names(settings)
        self._late = _latecomer(tuple(self._processes)[2:], faults)
        self._restarts = len(faults) + _MORE_RESTARTS
        self._leave_by_s: float | None = None

    def follow(
        self, children: Children, monitor: RunMonitor, progress: Progress, screen: Screen, interrupted: Stop
    ) -> Ended | None:
        """Start the run's nodes and follow them: a `RunDriver`."""
        self._children, self._began_s = children, time.monotonic()
        for name in self._processes:
            if name != self._late:
                self._start(name)
        shown_s = 0.0
        while len(self._done) < len(self._processes) and not interrupted.wait(_LOOK_EVERY_S):
            monitor.read(progress)
            if time.monotonic() - shown_s >= _SHOW_EVERY_S:
                shown_s = time.monotonic()
                screen.show(progress)
            ended, self._ended_first = self._ended_first + self._children.ended(), []
            ended = [item for item in ended if not self._ended_starved(item, progress)]
            failed = first_failure(self._children, ended, monitor, progress, tuple(self._processes.values()))
            if failed is not None:
                return failed
            self._done |= {item.name for item in ended}
            self._see_off(progress)
            self._bring_back()
            self._inject(progress)
        monitor.read(progress)
        return None

    def _start(self, name: str) -> None:
        self._logged.update(self._log_bytes(name))
        around = list if self._names is None else self._names.around
        process = self._processes[name]
        start_process(self._children, self._folder, self._settings, process, around, self._restarts)

    def _ended_starved(self, item: Ended, progress: Progress) -> bool:
        """Whether a node has ended for want of descriptors that it was denied; it is started again."""
        if item.code != ExitCode.RESOURCES or item.name not in self._starved:
            return False
        progress.news.append(f"chaos: {item.name} has ended for want of descriptors; it is started again")
        self._start_at_s[item.name] = time.monotonic()
        return True

    def _see_off(self, progress: Progress) -> None:
        """Once the coordinator has ended well, a node that has reported its totals is done, whether it ends or not."""
        if COORDINATOR not in self._done:
            return
        told = {label.partition("/")[2] for label in progress.goodbyes}
        due = {name: set(process.nodes) for name, process in self._processes.items()}
        due[COMPUTE] |= {rank_label(COMPUTE, rank) for rank in self._ranks.values()}
        said = {name for name, nodes in due.items() if nodes <= told} - self._done
        for name in said & self._start_at_s.keys():
            del self._start_at_s[name]
            self._done.add(name)
        if self._leave_by_s is None:
            self._leave_by_s = time.monotonic() + _LEAVE_S
        if time.monotonic() >= self._leave_by_s:
            for name in said & set(self._children.running):
                self._children.kill(name)
                self._done.add(name)

    def _bring_back(self) -> None:
        now_s = time.monotonic()
        for name in [name for name, at_s in self._start_at_s.items() if at_s <= now_s]:
            del self._start_at_s[name]
            self._start(name)
        for name in [name for name, at_s in self._go_on_at_s.items() if at_s <= now_s]:
            del self._go_on_at_s[name]
            self._children.go_on(name)
        for undo in [undo for at_s, undo in self._undo_at_s if at_s <= now_s]:
            undo()
        self._undo_at_s = [(at_s, undo) for at_s, undo in self._undo_at_s if at_s > now_s]

    def _inject(self, progress: Progress) -> None:
        """Carry out the first fault whose moment has come and whose nodes or links are there."""
        now = position(progress, len(self._folder.nodes) - 1)
        self._now = max(self._now, now, key=lambda moment: moment.place)
        if self._late and not any(fault.moment.stage is Stage.GATHERING for fault in self._due):
            self._start(self._late)
            self._late = ""
        for fault in self._due:
            if not fault.moment.reached(self._now) and not self._all_wait(fault, progress):
                return
            nodes, links = self._carry_out(fault)
            if nodes:
                break
        else:
            return
        self._due.remove(fault)
        seconds = 0.0 if self._ranks.keys() >= set(nodes) else fault.seconds
        progress.news.append(f"chaos: {fault.kind} {', '.join(nodes)} for {seconds:g} s")
        last = progress.training.last
        self._injected.append(
            InjectedFault(
                at_s=round(time.monotonic() - self._began_s, 2),
                kind=fault.kind,
                nodes=nodes,
                stage=self._now.stage,
                share=round(self._now.share, 3),
                epoch=last.epoch if last else 0,
                step=last.step if last else 0,
                seconds=seconds,
                links=links,
            )
        )

    def _all_wait(self, fault: Fault, progress: Progress) -> bool:
        """Whether all but the latecomer have joined, who waits for this fault of gathering: no more will join before.
        A latecomer that holds many sites leaves few to gather."""
        if not self._late or fault.moment.stage is not Stage.GATHERING:
            return False
        joined = {label.partition("/")[2] for label in progress.joined}
        return joined.issuperset(set(self._folder.nodes) - {COORDINATOR} - set(self._processes[self._late].nodes))

    def _carry_out(self, fault: Fault) -> tuple[tuple[str, ...], int]:
        """Nodes that were hit and links that were cut; none when it can't be done now."""
        if fault.kind in (FaultKind.CUT, FaultKind.UNNAME):
            (node,), relays = fault.nodes, self._relays[fault.nodes[0]]
            if not any(relay.open_connections for relay in relays):
                return (), 0
            if fault.kind is FaultKind.CUT:
                return fault.nodes, sum(relay.take_down(fault.seconds) for relay in relays)
            self._unname(node, fault.seconds)
            return fault.nodes, sum(relay.drop_connections() for relay in relays)
        nodes = tuple(name for name in fault.nodes if self._process_of(name) not in self._done)
        # At the very end those that were meant may have ended; then the fault is another's.
        nodes = nodes or tuple(name for name in self._processes if self._ready(name))[-1:]
        if not all(map(self._ready, nodes)):
            return (), 0
        return tuple(name for name in nodes if self._hit(fault, name)), 0

    def _unname(self, node: str, seconds: float) -> None:
        names = self._names
        assert names is not None, "the schedule has faults of names only where there are any"
        names.set_away(node, True)
        self._undo_at_s.append((time.monotonic() + seconds, lambda: names.set_away(node, False)))

    def _hit(self, fault: Fault, name: str) -> bool:
        if fault.kind is FaultKind.STARVE:
            feed = self._children.starve(name)
            if feed is not None:
                self._starved.add(name)
                self._undo_at_s.append((time.monotonic() + fault.seconds, feed))
            return feed is not None
        if fault.kind is FaultKind.STOP:
            if not self._children.pause(name):
                return False
            self._go_on_at_s[name] = time.monotonic() + fault.seconds
            return True
        if name in self._ranks:
            self._logged.update(self._log_bytes(COMPUTE))
            return self._children.kill_rank(COMPUTE, self._ranks[name])
        code = self._children.kill(name)
        if code == _KILLED:
            self._start_at_s[name] = time.monotonic() + fault.seconds
        elif code is not None:  # it had ended by itself at this very moment
            self._ended_first.append(Ended(name, code))
        return code == _KILLED

    def _ready(self, name: str) -> bool:
        """Whether a process runs and, once all have gathered, each of its nodes has come to write to its log."""
        name = self._process_of(name)
        if name not in self._children.running or name in self._go_on_at_s:
            return False
        if name == COMPUTE and self._ranks and len(self._children.ranks(COMPUTE)) < len(self._ranks):
            return False
        return self._now.stage is Stage.GATHERING or all(
            size > self._logged[node] for node, size in self._log_bytes(name).items()
        )

    def _process_of(self, name: str) -> str:
        """The process that holds a node or a rank."""
        return COMPUTE if name in self._ranks else name

    def _log_bytes(self, name: str) -> dict[str, int]:
        """Of each node of a process, and of each rank."""
        paths = {node: self._folder.state(node) / LOG for node in self._processes[name].nodes}
        if name == COMPUTE:
            ranks = enumerate(self._folder.compute_states)
            paths = {rank_label(COMPUTE, rank): state / LOG for rank, state in ranks}
        return {node: path.stat().st_size if path.exists() else 0 for node, path in paths.items()}


def _latecomer(sites: tuple[str, ...], faults: tuple[Fault, ...]) -> str:
    """A site that is started after the faults of gathering, so that they find the parties gathering; "" for none."""
    hit = {name for fault in faults if fault.moment.stage is Stage.GATHERING for name in fault.nodes}
    return next((name for name in reversed(sites) if hit and name not in hit), "")
