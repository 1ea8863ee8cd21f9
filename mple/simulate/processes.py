"""The processes of a simulated run: one for each node, but that several sites may share one."""

from dataclasses import dataclass
from pathlib import Path

from mple.records.run_folder import COMPUTE, COORDINATOR, RunFolder
from mple.simulate.settings import SimulationSettings


@dataclass(frozen=True, slots=True)
class NodeProcess:
    """One process."""

    nodes: tuple[str, ...]
    """Names of those that live in it: sites, or one node of another role."""

    @property
    def name(self) -> str:
        """Its node's, or those of the first and the last, which no node can be called: north..south."""
        return self.nodes[0] if len(self.nodes) == 1 else f"{self.nodes[0]}..{self.nodes[-1]}"

    def log_text(self, folder: RunFolder) -> Path:
        """What it prints: with the node, or beside the nodes that share it."""
        return folder.log_text(self.name) if len(self.nodes) == 1 else folder.path / "nodes" / f"{self.name}.txt"


def rank_names(settings: SimulationSettings) -> dict[str, int]:
    """What the ranks of the compute node are called, for kills of a single one; none where it is one process."""
    ranks = settings.training.ranks
    return {f"rank {rank} of {COMPUTE}": rank for rank in range(ranks)} if ranks > 1 else {}


def processes_of(settings: SimulationSettings) -> tuple[NodeProcess, ...]:
    """All processes of a run in the order in which they are started."""
    return tuple(map(NodeProcess, ((COORDINATOR,), (COMPUTE,), *settings.site_groups)))
