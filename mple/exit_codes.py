"""Exit codes of every mple command, which scripts rely on, and the error that has one of its own."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command says by its exit code."""

    DONE = 0
    BAD_USAGE = 2
    """Wrong arguments, configuration or data: fix and start again."""
    RUN_FAILED = 3
    """The run ended as failed, or a party refused what this one sent."""
    UNREACHABLE = 4
    """A party could not be reached in time, or its certificate or ours was refused."""
    INTERNAL = 5
    """A fault of this program; the log has the details."""
    STORAGE = 6
    """The node can't write to its disk: make room and start it again with the same command."""
    DAMAGED = 7
    """A file of this node's own is damaged, gone or out of date: put it right and start again with the same command."""
    RESOURCES = 8
    """The process has no descriptors, memory or threads left: give it more and start it again with the same command."""
    INTERRUPTED = 130
    """Stopped by Ctrl-C, SIGTERM, or a terminal that went away."""


class ExitError(Exception):
    """Ends the command with this code; the text says what happened, `fix` the way out if that stands apart."""

    def __init__(self, text: str, code: ExitCode, fix: str = "") -> None:
        super().__init__(text)
        self.code, self.fix = code, fix
