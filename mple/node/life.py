"""A node's life from its configuration to its end, and how it ended: the same for a node alone and one of several."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mple.disk.scarcity import scarcity_end, scarcity_of
from mple.disk.storage_faults import storage_end, storage_fault_of, watched_storage
from mple.exit_codes import ExitCode
from mple.node.ending import exit_code_of, fix_of
from mple.node.logs import log_is_open, log_to_file
from mple.node.retry import StoppedError
from mple.node.stop import Stop

S = TypeVar("S")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How a node has ended."""

    code: ExitCode
    told: Exception | None = None
    """What its operator is told; None where there is nothing to tell."""


def live(settings_of: Callable[[], S], body: Callable[[S, Stop], None], stop: Stop) -> Ending:
    """Live as a node until the body ends; what ended it is in the node's log, where there is one. A fault of the disk
    sets the wish to end.

    Args:
        settings_of: Reads the configuration.
        body: The node; see `mple.node.entry.run_body`.
        stop: Set when it is to end.
    """
    with watched_storage(stop.set) as disk:
        settings, fault, code = None, None, ExitCode.DONE
        try:
            settings = settings_of()
            body(settings, stop)
        except StoppedError:
            code = ExitCode.INTERRUPTED
        except Exception as raised:
            fault, code = raised, exit_code_of(raised)
        full = disk.fault or storage_fault_of(fault)
        if full is not None:
            told = storage_end(full, getattr(settings, "state", Path()))
            return _ended(told, told.code, full)
        scarce = scarcity_of(fault)
        if scarce is not None:
            return _ended(scarcity_end(scarce), code, scarce)
        if fault is not None:
            return _ended(fault, code, fault)
        return Ending(code=code)


def _ended(told: Exception, code: ExitCode, cause: Exception) -> Ending:
    if log_is_open() or code is ExitCode.INTERNAL:
        # With its traceback for the log's file: what looks like bad data may be a fault of this program after all.
        log_to_file("; ".join(filter(None, (str(told), fix_of(told)))), cause)
    return Ending(code=code, told=told)
