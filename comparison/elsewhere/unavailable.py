"""Why a system from elsewhere was not measured."""

from enum import StrEnum


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
