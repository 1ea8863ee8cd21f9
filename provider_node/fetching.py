"""What a site's data keep elsewhere, as a PACS does, is fetched before it joins a run; the log tells how far it is."""

import time
from collections.abc import Callable

from mple.data import DataSource
from mple.node.logs import log
from mple.node.retry import StoppedError
from mple.node.stop import Stop

_EVERY_S = 10.0
"""Longest time without a line, and shortest between two that say the same."""


def fetched(source: DataSource, stop: Stop, clock: Callable[[], float] = time.monotonic) -> DataSource:
    """The same data on this machine.

    Raises DataError: as `DataSource.fetched`; StoppedError: the node is to end; what was fetched is kept.
    """
    last, at_s = "", clock() - _EVERY_S

    def told(text: str, done: int, total: int) -> None:
        nonlocal last, at_s
        if text != last or clock() - at_s >= _EVERY_S:
            last, at_s = text, clock()
            log("fetch", f"{text}: {done} of {total}", done=done, total=total)

    def wait(seconds: float) -> None:
        if stop.wait(seconds):
            raise StoppedError

    return source.fetched(told, wait)
