"""A cable of a given length: what comes in at one of two network interfaces goes out at the other some time later.

    python benchmarks/delay_line.py MILLISECONDS IN OUT [IN OUT ...]

For kernels whose `tc` can delay nothing (no netem). Ethernet frames are passed on as they are, so TCP's ends lie as far
apart as its own clock tells them: slow start, windows and losses are the real ones. Frames that the kernel has not cut
into packets yet (segmentation offload) stay whole, which is why Python is quick enough; a queue with a rate at the way
out cuts them. Memory is what is under way. Runs in the namespace that has the interfaces, until it is killed.
"""

import contextlib
import os
import select
import socket
import sys
import time
from collections import deque

_EVERY_PROTOCOL = 0x0003
_SOL_PACKET, _VIRTIO_HEADERS, _IGNORE_OUTGOING = 263, 15, 23
"""Of packet(7) and <linux/if_packet.h>, which Python does not name."""
_FORCED_SEND_BUFFER, _FORCED_RECEIVE_BUFFER = 32, 33
_BUFFER_BYTES = 64 * 1024 * 1024
"""More than a line's queue holds, which alone decides what is dropped."""
_MOST_FRAME = 70_000
_AT_ONCE = 32


def join(pairs: list[tuple[str, str]], delay_s: float) -> None:
    """Pass frames on between the interfaces of each pair, both ways, for ever; a frame that its way out has no room for
    is lost, as at any router."""
    ways: dict[int, tuple[socket.socket, socket.socket, deque[tuple[float, bytes]]]] = {}
    for names in pairs:
        one, other = (_opened(name) for name in names)
        ways[one.fileno()] = (one, other, deque())
        ways[other.fileno()] = (other, one, deque())
    print("joined", flush=True)
    while True:
        now_s, next_s = time.monotonic(), float("inf")
        for _, way_out, under_way in ways.values():
            while under_way and under_way[0][0] <= now_s:
                with contextlib.suppress(OSError):  # no room in the queue, or the interface is down
                    way_out.send(under_way.popleft()[1])
            if under_way:
                next_s = min(next_s, under_way[0][0])
        wait_s = None if next_s == float("inf") else max(0.0, next_s - time.monotonic())
        for number in select.select(list(ways), [], [], wait_s)[0]:
            way_in, _, under_way = ways[number]
            with contextlib.suppress(BlockingIOError):
                for _ in range(_AT_ONCE):
                    under_way.append((time.monotonic() + delay_s, way_in.recv(_MOST_FRAME)))


def _opened(name: str) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # hears nothing before it is bound
    opened.setsockopt(_SOL_PACKET, _VIRTIO_HEADERS, 1)
    opened.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
    for buffer in (_FORCED_SEND_BUFFER, _FORCED_RECEIVE_BUFFER):
        opened.setsockopt(socket.SOL_SOCKET, buffer, _BUFFER_BYTES)
    opened.bind((name, _EVERY_PROTOCOL))
    opened.setblocking(False)
    return opened


if __name__ == "__main__":
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))  # a cable does not wait for the processor
    ends = sys.argv[2:]
    join(list(zip(ends[::2], ends[1::2], strict=True)), float(sys.argv[1]) / 1000)
