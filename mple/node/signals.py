"""Signals that end a process in order: SIGTERM, Ctrl-C, and a terminal that goes away (SIGHUP).

What Python runs for a signal runs between two steps of the main thread, whatever lock that thread holds just then, and
within another signal, too. So nothing is done there: the system's own handler writes the signal's number to a socket
(`signal.set_wakeup_fd`), and a thread that reads it sets the wish to end.
"""

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from mple.node.stop import Stop

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextmanager
def stop_on_signals(*, last: bool = False) -> Iterator[Stop]:
    """A wish to end that the first signal sets; for the main thread, and for one block at a time.

    Guarantees: no lock is taken in a handler, so signals may come at any distance, from several senders, and within
    one another. Each after the first does nothing more, for the process is ending; SIGKILL ends it at once, and what is
    on its disk bears that. A SIGHUP that was ignored before, as `nohup` has it, stays ignored.

    After the block the former handlers are back; but where the process is ending, signals are ignored from then on, for
    one that still came would kill Python while it tidies up, and change the exit code.

    Args:
        last: The process ends after the block in any case, not only if a signal came.
    """
    stop = Stop()
    numbers = [number for number in ENDING if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    reader = threading.Thread(target=_set_when_told, args=(reading, numbers, stop), name="signals", daemon=True)
    reader.start()
    # Bytes that find the socket full are lost; one of those that filled it is enough.
    woken_before = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    before = {number: signal.signal(number, _do_nothing) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if last or stop.is_set() else handler)
        signal.set_wakeup_fd(woken_before)
        writing.close()  # the reader's end
        reader.join()


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    """Python writes to the wakeup socket only for signals that have a handler."""


def _set_when_told(reading: socket.socket, numbers: list[signal.Signals], stop: Stop) -> None:
    with reading:
        while told := reading.recv(64):
            if any(number in numbers for number in told):
                stop.set()
