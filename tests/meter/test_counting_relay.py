"""The relay: every byte counted by the time that anybody has it, links cut on both sides, no thread left."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from mple.meter.relay import CountingRelay


class Target:
    """Sends back what it gets, until its caller has ended."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.ended = threading.Semaphore(0)
        """Released once for each link that has ended here."""
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with closing(self._listener), contextlib.suppress(OSError):  # it may be closed
            self._listener.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(near,), daemon=True).start()

    def _echo(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError):  # it may be cut
            while piece := near.recv(65536):
                near.sendall(piece)
        self.ended.release()


@pytest.fixture
def target() -> Iterator[Target]:
    with closing(Target()) as echo:
        yield echo


@pytest.fixture
def relay(target: Target) -> Iterator[CountingRelay]:
    with closing(CountingRelay("127.0.0.1", target.port)) as one:
        yield one


def dial(relay: CountingRelay) -> socket.socket:
    host, _, port = relay.address.rpartition(":")
    link = socket.create_connection((host, int(port)), timeout=10)
    return link


def received(link: socket.socket, size: int) -> int:
    got = 0
    while got < size and (piece := link.recv(65536)):
        got += len(piece)
    return got


def within(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    give_up_at = time.monotonic() + seconds
    while not condition() and time.monotonic() < give_up_at:
        time.sleep(0.01)
    return condition()


def test_bytes_are_counted_exactly_and_at_once(relay: CountingRelay) -> None:
    total = 0
    with dial(relay) as link:
        for size in (1, 999, 300_000, 1, 65_537):
            sender = threading.Thread(target=link.sendall, args=(bytes(size),))
            sender.start()
            assert received(link, size) == size
            sender.join()
            total += size
            assert (relay.bytes_up, relay.bytes_down) == (total, total)
    assert relay.connections == 1


def test_links_are_summed(relay: CountingRelay) -> None:
    links = [dial(relay) for _ in range(5)]
    for number, link in enumerate(links):
        link.sendall(bytes(1000 + number))
    for number, link in enumerate(links):
        assert received(link, 1000 + number) == 1000 + number
        link.close()
    assert (relay.bytes_up, relay.bytes_down, relay.connections) == (5010, 5010, 5)


def test_an_end_of_one_direction_leaves_the_other_open(relay: CountingRelay, target: Target) -> None:
    with dial(relay) as link:
        link.sendall(b"all I have")
        link.shutdown(socket.SHUT_WR)
        assert received(link, 100) == 10
        assert target.ended.acquire(timeout=10)


def test_cut_links_are_cut_on_both_sides_and_new_ones_let_in(relay: CountingRelay, target: Target) -> None:
    links = [dial(relay) for _ in range(3)]
    for link in links:
        link.sendall(b"x")
        assert received(link, 1) == 1
    assert relay.drop_connections() == 3
    for link in links:
        with link:
            assert _ended(link)
        assert target.ended.acquire(timeout=10)
    assert relay.drop_connections() == 0
    with dial(relay) as fresh:
        fresh.sendall(b"again")
        assert received(fresh, 5) == 5
    assert relay.connections == 4


def test_a_target_that_is_away(target: Target) -> None:
    target.close()
    with closing(CountingRelay("127.0.0.1", target.port)) as relay:
        with dial(relay) as link:
            assert _ended(link)
        assert (relay.connections, relay.bytes_up, relay.bytes_down) == (0, 0, 0)


def test_close_cuts_links_and_takes_no_more(relay: CountingRelay, target: Target) -> None:
    link = dial(relay)
    link.sendall(b"x")
    assert received(link, 1) == 1
    relay.close()
    with link:
        assert _ended(link)
    assert target.ended.acquire(timeout=10)
    with pytest.raises(OSError, match="refused"):
        dial(relay)
    assert within(lambda: not [one for one in threading.enumerate() if one.name.startswith("relay")])


def test_a_link_that_is_down_resets_what_is_new_until_it_is_up_again(relay: CountingRelay, target: Target) -> None:
    def answers() -> bool:
        try:
            with dial(relay) as link:
                link.sendall(b"y")
                return link.recv(1) == b"y"
        except ConnectionError:
            return False

    with dial(relay) as link:
        link.sendall(b"x")
        assert received(link, 1) == 1
        assert relay.take_down(0.5) == 1
        assert not answers()
        assert _ended(link)
    assert target.ended.acquire(timeout=10)
    assert relay.connections == 1
    assert within(answers)


def _ended(link: socket.socket) -> bool:
    try:
        return link.recv(1) == b""
    except ConnectionResetError:
        return True
