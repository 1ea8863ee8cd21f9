"""A TCP relay that counts: what really crossed a port, TLS and HTTP/2 included. For checks and for cutting links."""

import contextlib
import socket
import struct
import threading
import time

_PIECE_BYTES = 256 * 1024


class CountingRelay:
    """Listens on a free port of 127.0.0.1 and passes everything on to a target, counting exactly. Two threads per
    connection; memory is bounded by one piece per direction."""

    def __init__(self, target_host: str, target_port: int) -> None:
        self._target = (target_host, target_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._lock = threading.Lock()
        self._links: set[socket.socket] = set()
        self.bytes_up = self.bytes_down = 0
        """From the dialling side to the target, and back."""
        self.connections = 0
        """That reached the target."""
        self._closed = False
        self._down_until_s = 0.0
        threading.Thread(target=self._accept, name="relay", daemon=True).start()

    @property
    def open_connections(self) -> int:
        """Connections that are open now."""
        with self._lock:
            return len(self._links) // 2

    def drop_connections(self) -> int:
        """Cut every open connection at once; returns how many there were. New ones are let in."""
        with self._lock:
            links, self._links = self._links, set()
        for link in links:
            _cut(link)
        return len(links) // 2

    def take_down(self, seconds: float) -> int:
        """Cut every open connection and reset new ones for a while; returns how many were open."""
        with self._lock:
            self._down_until_s = time.monotonic() + seconds
        return self.drop_connections()

    def close(self) -> None:
        """Stop listening and cut what is open."""
        self._closed = True
        _cut(self._listener)
        self.drop_connections()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                if self._closed:
                    return
                raise
            if self._is_down():
                _reset(near)
                continue
            try:
                far = socket.create_connection(self._target, timeout=10.0)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            for link in (near, far):
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._links |= {near, far}
                self.connections += 1
            if self._is_down():  # taken down while the target was dialled
                self.drop_connections()
            threading.Thread(target=self._link, args=(near, far), name="relay-link", daemon=True).start()

    def _is_down(self) -> bool:
        with self._lock:
            return time.monotonic() < self._down_until_s

    def _link(self, near: socket.socket, far: socket.socket) -> None:
        back = threading.Thread(target=self._pass_on, args=(far, near, False), name="relay-link", daemon=True)
        back.start()
        self._pass_on(near, far, True)
        back.join()
        with self._lock:
            self._links -= {near, far}
        near.close()
        far.close()

    def _pass_on(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        piece = memoryview(bytearray(_PIECE_BYTES))
        try:
            while size := source.recv_into(piece):
                # Counted first: whoever has received a byte finds it counted.
                with self._lock:
                    if up:
                        self.bytes_up += size
                    else:
                        self.bytes_down += size
                sink.sendall(piece[:size])
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            # Either end broke the connection: the other one must see it too.
            _cut(source)
            _cut(sink)


def _reset(link: socket.socket) -> None:
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    link.close()


def _cut(link: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it was not connected any more
        link.shutdown(socket.SHUT_RDWR)
    link.close()
