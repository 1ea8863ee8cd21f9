"""What every node process shares: its start, its log, and its line to the coordinator."""

from mple.node.ending import run_app
from mple.node.entry import Config, Overrides, node_app, run_body, run_node

__all__ = ["Config", "Overrides", "node_app", "run_app", "run_body", "run_node"]
