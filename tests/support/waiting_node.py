"""The least that a node can be: it has a name, and waits until it is told to end."""

from __future__ import annotations

from dataclasses import dataclass

from mple.node.retry import StoppedError
from mple.node.stop import Stop


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """A node's configuration file."""

    name: str
    threads: int = 1
    wait_s: float = 60.0
    """It is done after this time."""

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"threads = {self.threads}; must be above 0")


def wait(settings: Settings, stop: Stop) -> None:
    """The node's body."""
    if stop.wait(settings.wait_s):
        raise StoppedError
