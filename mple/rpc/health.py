"""gRPC's health service: whether a server takes calls, and word of it when that changes.

The library's own for coroutines lets one watcher who does not read hold up all others, and the server's end.
"""

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mple.rpc.call import Call
from mple.rpc.waking import Listeners


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # the library has no types
    """Of the server as a whole, the service ""; any other is unknown."""

    def __init__(self) -> None:
        """Not serving yet."""
        self._listeners = Listeners()
        self._status: int = health_pb2.HealthCheckResponse.NOT_SERVING
        self._ended = False

    def serve(self) -> None:
        """Serving from now on."""
        self._set(health_pb2.HealthCheckResponse.SERVING)

    def end(self) -> None:
        """Not serving, and that for good: watchers are told, and their calls end."""
        self._ended = True
        self._set(health_pb2.HealthCheckResponse.NOT_SERVING)

    def Check(self, request: health_pb2.HealthCheckRequest, context: Call) -> health_pb2.HealthCheckResponse:
        """The state now."""
        if request.service:
            context.abort(grpc.StatusCode.NOT_FOUND)
        return health_pb2.HealthCheckResponse(status=self._status)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Call) -> None:
        """The state now, and every other from now on."""
        woken, told = context.wake(), None
        with self._listeners.listening(woken.set, ""):
            while True:
                woken.clear()
                ended, status = self._ended, self._status
                if request.service:
                    status = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
                if status != told:
                    await context.write(health_pb2.HealthCheckResponse(status=status))
                if ended:
                    return
                told = status
                await woken.wait()

    def _set(self, status: int) -> None:
        self._status = status
        self._listeners.wake_all()
