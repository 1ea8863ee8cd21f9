"""What every system from elsewhere leaves: a JSON file with its measurements, or with the reason why there are none."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from mple.disk.whole_files import write_whole


class Reason(StrEnum):
    """Why a row is left out."""

    NO_NETWORK = "no network"
    NO_WHEEL = "no wheel"
    WRONG_PYTHON = "wrong Python"
    CONFLICT = "conflicting packages"
    NO_SPACE = "no space on the disk"
    INSTALL_FAILED = "installation failed"
    TIME = "over the time limit"
    MEMORY = "over the memory limit"
    RUN_FAILED = "run failed"


class Unavailable(Exception):
    """A system can't be measured here."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """A row that was left out."""

    system: str
    reason: Reason
    detail: str
    state: str = "skipped"


class Row(Protocol):
    """A result dataclass; `state` is "measured" or "skipped"."""

    @property
    def system(self) -> str:
        """Whose row it is."""

    @property
    def state(self) -> str:
        """Whether there are measurements."""


def write_row(row: Row, path: Path) -> None:
    """Write a result dataclass as JSON, whole or not at all.

    Raises:
        TypeError: It is no dataclass.
    """
    if not dataclasses.is_dataclass(row) or isinstance(row, type):
        raise TypeError(f"{row!r} is no dataclass")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(dataclasses.asdict(row), indent=2) + "\n").encode())
