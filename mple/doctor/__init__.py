"""`mple doctor`: why a node can't work or a peer can't be reached, each step with its cause and its fix.

gRPC answers almost every fault of a connection with UNAVAILABLE. Here the connection is taken apart: `probing` looks,
`diagnosis` and `certificates` judge what was seen, `examination` goes the steps and stops where going on is pointless.
"""

from mple.doctor.examination import TIMEOUT_S, examine_node, examine_one
from mple.doctor.findings import Examination, Severity

__all__ = ["TIMEOUT_S", "Examination", "Severity", "examine_node", "examine_one"]
