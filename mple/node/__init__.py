"""What every node process shares: its start, its log, and its line to the coordinator."""

from mple.node.entry import Verb, node_verb, run_node, run_verbs

__all__ = ["Verb", "node_verb", "run_node", "run_verbs"]
