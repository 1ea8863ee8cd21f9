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

SERVING_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", PING_EVERY_MS),
    ("grpc.keepalive_timeout_ms", PING_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", PING_EVERY_MS // 2),
    ("grpc.max_receive_message_length", RECEIVE_LIMIT_BYTES),
)
