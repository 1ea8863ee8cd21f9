"""A node's log: JSON lines in its state folder for machines, short lines on stderr for people.

A line of the file has `time` (UTC, ISO 8601), `level`, `node`, `event` (a fixed word) and `text`, and whatever fields
the event has. Secrets, pictures and labels are never logged. A peer can have a node write lines, but not without end:
of each event about each party there are so many in a while, and then their number.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from mple.audit.call_tally import Allowance, CallTally
from mple.disk.private import private_file
from mple.disk.storage_faults import note_storage_fault, storage_fault_of
from mple.per_node import PerNode, is_one_of_several
from mple.printable import printable, printable_lines
from mple.records.state_files import LOG

_LOGGER = logging.getLogger("mple.node")
_RESERVED = "mple_fields"
_FILE_ONLY = "mple_file_only"
_MOST_TEXT = 2_000
"""Characters of a text and of a field: a peer's words may be in them."""
_MOST_TRACEBACK_LINES = 200
_LINES = Allowance(lines=100, window_s=60.0, word="lines_more")
_TOLD = "mple_told"
_handlers: PerNode[tuple[logging.Handler, ...]] = PerNode(())


def log(event: str, text: str, **fields: str | int | float) -> None:
    """Write one line: a fixed word for machines, a sentence for people, and the event's own fields."""
    _LOGGER.info("%s", text, extra={_RESERVED: {"event": event, **fields}})


def warn(event: str, text: str, **fields: str | int | float) -> None:
    """The same about what somebody should look at."""
    _LOGGER.warning("%s", text, extra={_RESERVED: {"event": event, **fields}})


def log_error(event: str, text: str, **fields: str | int | float) -> None:
    """The same about what ends a run or a node."""
    _LOGGER.error("%s", text, extra={_RESERVED: {"event": event, **fields}})


def log_to_file(text: str, fault: Exception) -> None:
    """Write an error with its traceback to the log's file, not to stderr, where whoever calls this prints it."""
    _LOGGER.error("%s", text, exc_info=fault, extra={_FILE_ONLY: True})


def open_log(state: Path, node: str) -> None:
    """Send all logging of this node to `state/log.jsonl` and, shorter, to stderr, where it names itself if it may have
    others beside it in its process. A file that can't be written raises nothing into the code that logs: the fault is
    noted, and ends the node."""
    few = _FewLines()
    lines = _LogFile(private_file(state / LOG), few)
    lines.setFormatter(_JsonLines(node))
    people = _to_people(f"{node}: " if is_one_of_several() else "")
    people.addFilter(few)
    people.addFilter(lambda record: not hasattr(record, _FILE_ONLY))
    close_log()
    _handlers.set((lines, people))
    root = logging.getLogger()
    root.handlers[:] = [_ToItsNode()]
    root.setLevel(logging.INFO)


def log_is_open() -> bool:
    """Whether this node has a log."""
    return bool(_handlers.get())


def close_log() -> None:
    """Write no more lines of this node; a second call does nothing. A process that ends closes its only node's."""
    for handler in _handlers.get():
        handler.close()
    _handlers.set(())


class _ToItsNode(logging.Handler):
    """Hands each line to the log of the node that the writing thread works for."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Without a lock: the node's own handlers have theirs."""
        for handler in _handlers.get() or (_to_people(""),):
            handler.handle(record)
        return True

    def close(self) -> None:
        close_log()
        super().close()


class _FewLines(logging.Filter):
    """Lets `_LINES` pass of each event, or place in a library, about each party; tells the number of the others."""

    def __init__(self) -> None:
        super().__init__()
        self._tally = CallTally(self._tell, _LINES)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is written; the same to each handler that asks about it."""
        if not hasattr(record, _TOLD):
            fields = getattr(record, _RESERVED, {})
            event = fields.get("event", f"{record.name}:{record.lineno}")
            about = fields.get("party", fields.get("site", ""))
            told = event == _LINES.word or self._tally.enter(f"{event} {about}".rstrip(), "line", "ok")
            setattr(record, _TOLD, told)
        return bool(getattr(record, _TOLD))

    def tell_rest(self) -> None:
        """Tell what is not told yet."""
        self._tally.tell_rest()

    def _tell(self, kind: str, what: str, result: str, **facts: str | int | float | bool) -> None:
        if what == _LINES.word:
            warn(what, f"{facts['calls']} more lines of {kind!r} were left out", lines=facts["calls"])


class _LogFile(logging.FileHandler):
    def __init__(self, path: Path, few: _FewLines) -> None:
        super().__init__(path, encoding="utf-8")
        self.addFilter(few)
        self._few = few

    def close(self) -> None:
        self._few.tell_rest()
        super().close()

    def handleError(self, record: logging.LogRecord) -> None:
        fault = sys.exc_info()[1]
        if isinstance(fault, Exception) and storage_fault_of(fault) is not None:
            note_storage_fault(fault)
        else:
            super().handleError(record)


class _ToPeople(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:
        """Where nobody reads any more, a terminal that has gone or a closed pipe, the file alone has the line."""
        if not isinstance(sys.exc_info()[1], ValueError | OSError):
            super().handleError(record)


def _to_people(whose: str) -> logging.Handler:
    people = _ToPeople(sys.stderr)
    people.setFormatter(_ShortLines(f"%(asctime)s %(levelname)-7s {whose}%(message)s", "%H:%M:%S"))
    return people


class _ShortLines(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable_lines(record.message, _MOST_TEXT)
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:
        return ""  # tracebacks are in the file


class _JsonLines(logging.Formatter):
    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "node": self._node,
            "event": "log",
            "text": printable(record.getMessage(), _MOST_TEXT),
        }
        for name, value in getattr(record, _RESERVED, {}).items():
            line[name] = value if isinstance(value, int | float) else printable(value, _MOST_TEXT)
        if record.exc_info:
            lines = self.formatException(record.exc_info).split("\n")
            line["traceback"] = "\n".join(printable(one, _MOST_TEXT) for one in lines[-_MOST_TRACEBACK_LINES:])
        return json.dumps(line, default=str)
