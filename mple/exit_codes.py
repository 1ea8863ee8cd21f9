"""Exit codes of every mple command; scripts rely on them."""

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
    INTERRUPTED = 130
    """Stopped by Ctrl-C or SIGTERM."""
