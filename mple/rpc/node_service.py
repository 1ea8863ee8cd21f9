"""The service that every listening node has beside its own: a probe of the link, for `mple doctor`."""

import time

import grpc
import grpc.aio

from mple import __version__
from mple.plan.run_plan import PROTOCOL_VERSION
from mple.rpc.errors import ErrorCode, MpleError
from mple.rpc.guard import guarded
from mple.rpc.identity import Party, Role
from mple.v1 import node_pb2, node_pb2_grpc

MOST_PADDING_BYTES = 1024 * 1024


def add_node_service(server: grpc.aio.Server, me: Party) -> None:
    """Have a server answer probes as `me`."""
    node_pb2_grpc.add_NodeServiceServicer_to_server(NodeService(me), server)


class NodeService(node_pb2_grpc.NodeServiceServicer):
    """Answers any party of the consortium; changes nothing."""

    def __init__(self, me: Party) -> None:
        self.consortium = me.consortium
        self._me = me

    @guarded(*Role)
    def Probe(
        self, request: node_pb2.ProbeRequest, context: grpc.ServicerContext, caller: Party
    ) -> node_pb2.ProbeResponse:
        """Who this is, its clock, and as many bytes as asked for."""
        for what, count in (("padding", len(request.padding)), ("want_bytes", request.want_bytes)):
            if count > MOST_PADDING_BYTES:
                text = f"{what} of {count} bytes; allowed are {MOST_PADDING_BYTES}"
                raise MpleError(ErrorCode.MESSAGE_MALFORMED, text)
        return node_pb2.ProbeResponse(
            label=self._me.label,
            protocol_version=PROTOCOL_VERSION,
            program_version=__version__,
            time_unix_ms=time.time_ns() // 1_000_000,
            padding_bytes=len(request.padding),
            padding=bytes(request.want_bytes),
        )
