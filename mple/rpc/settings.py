"""gRPC options of both ends, side by side because they must agree.

A dialling party pings every 60 s while a call is open; the serving one must allow that, or it ends the connection with
"too_many_pings" (its default allows one ping in five minutes). Two servers on one port are refused: Linux would split
the callers between them. The receive limit of 4 MiB is a defence and stays; our messages are of 1 MiB at most. A proxy
that the environment names is not used: gRPC would send even loopback calls to it, and the probe knows nothing of it.
"""

PING_EVERY_MS = 60_000
PING_TIMEOUT_MS = 20_000
RECEIVE_LIMIT_BYTES = 4 * 1024 * 1024

DIALLING_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", PING_EVERY_MS),
    ("grpc.keepalive_timeout_ms", PING_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.max_receive_message_length", RECEIVE_LIMIT_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    # Channels with equal options would share connections, and with them the certificate of the first.
    ("grpc.use_local_subchannel_pool", 1),
)

IDLE_CONNECTION_S = 60
"""After so long without a call a server closes a connection; also one whose call's headers never end."""
HANDSHAKE_S = 10
"""As long may a connection take until its certificate has been checked."""

SERVING_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", PING_EVERY_MS),
    ("grpc.keepalive_timeout_ms", PING_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", PING_EVERY_MS // 2),
    ("grpc.max_receive_message_length", RECEIVE_LIMIT_BYTES),
    ("grpc.max_connection_idle_ms", IDLE_CONNECTION_S * 1000),
    ("grpc.server_handshake_timeout_ms", HANDSHAKE_S * 1000),
)


def serving_options(connections: int, per_caller: int) -> tuple[tuple[str, int], ...]:
    """Of a server that takes so many connections at once, and so many calls of one caller.

    The first bounds its memory, too: gRPC reads a call's headers to their end before it refuses them, at a cost of up
    to 60 MB for each connection. It tells nobody whose a connection without a call is, so the number is of all callers
    together; calls are counted by caller (`mple.rpc.admission`), and refused there by name up to four times as many.
    """
    bounds = (
        ("grpc.max_allowed_incoming_connections", connections),
        ("grpc.max_concurrent_streams", 4 * per_caller),
    )
    return (*SERVING_OPTIONS, *bounds)
