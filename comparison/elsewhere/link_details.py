"""What SPU's profile says of a run: bytes and messages of one party, and where they went. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_TOTAL = re.compile(r"Link details: total send bytes (\d+), recv bytes (\d+), send actions (\d+), recv actions (\d+)")
_PART = re.compile(r"- (\w+\.\w+), executed (\d+) times, duration ([\d.e+-]+)s, send bytes (\d+) recv bytes (\d+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class PartDetails:
    """One kind of operation in a run."""

    times: int
    seconds: float
    sent_bytes: int
    received_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkDetails:
    """One run of a program at one party."""

    sent_bytes: int
    received_bytes: int
    messages_sent: int
    messages_received: int
    parts: Mapping[str, PartDetails]
    """By operation of the compiled program, `pphlo.convolution` for example; only those that took time or bytes."""


def link_details(log: str) -> tuple[LinkDetails, ...]:
    """Every run in a party's log, in order. A run that was cut off is left out."""
    runs, parts = [], {}
    for line in log.splitlines():
        part, total = _PART.search(line), _TOTAL.search(line)
        if part:
            name, times, seconds, sent, received = part.groups()
            if int(sent) or int(received) or float(seconds) >= 0.001:
                parts[name] = PartDetails(
                    times=int(times), seconds=float(seconds), sent_bytes=int(sent), received_bytes=int(received)
                )
        elif total:
            sent, received, messages_sent, messages_received = map(int, total.groups())
            runs.append(
                LinkDetails(
                    sent_bytes=sent,
                    received_bytes=received,
                    messages_sent=messages_sent,
                    messages_received=messages_received,
                    parts=parts,
                )
            )
            parts = {}
    return tuple(runs)
