"""What every node process shares: its start, its log, and its line to the coordinator."""

from mple.node.entry import run_node

__all__ = ["run_node"]
