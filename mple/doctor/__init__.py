"""`mple doctor`: why a node can't work or a peer can't be reached, each step with its cause and its fix.

gRPC answers almost every fault of a connection with UNAVAILABLE. Here the connection is taken apart: `probing` looks,
`diagnosis` and `certificates` judge what was seen, `examination` goes the steps and stops where going on is pointless.
"""

from mple.doctor.examination import SERVING, TIMEOUT_S, Peer, examine_node, examine_one
from mple.doctor.findings import Examination, Finding, Severity
from mple.doctor.rendering import as_json, lines, table, verdict

__all__ = [
    "SERVING",
    "TIMEOUT_S",
    "Examination",
    "Finding",
    "Peer",
    "Severity",
    "as_json",
    "examine_node",
    "examine_one",
    "lines",
    "table",
    "verdict",
]
