"""When a run was, what started it, and from which state of the source."""

import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mple.meter.ledger_reading import opened_ledger

_SOURCE = Path(__file__).resolve().parents[2]
_GIT_TIMEOUT_S = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """Of one run; texts are empty where nobody knows."""

    began: str = ""
    """Time of the first message in any ledger, ISO 8601, UTC."""
    ended: str = ""
    """Of the last one."""
    seconds: float = 0.0
    """Between the two."""
    command: str = ""
    """As it was typed."""
    commit: str = ""
    """Of the source, where the program ran from a checkout, "with changes" where files differed from it."""

    @property
    def when(self) -> str:
        """Beginning and end for people: "2026-11-30 17:53 to 18:02 UTC"."""
        if not self.began:
            return "not known"
        (day, began), (last_day, ended) = (text.split("T") for text in (self.began, self.ended))
        return f"{day} {began[:5]} to {f'{last_day} ' * (last_day != day)}{ended[:5]} UTC"


def run_facts(ledger: Path, command: str = "", commit: str = "") -> RunFacts:
    """The facts, with the times of a merged ledger; without them where it is empty or its times can't be.

    Raises LedgerFileError: it is no ledger.
    """
    with opened_ledger(ledger) as opened:
        began_ns, ended_ns = opened.execute("SELECT min(time_unix_ns), max(time_unix_ns) FROM messages").fetchone()
    try:
        began, ended = (_time(one) for one in (began_ns, ended_ns))
    except (ValueError, OverflowError, OSError, TypeError):
        return RunFacts(command=command, commit=commit)
    seconds = (ended_ns - began_ns) / 1e9
    return RunFacts(began=began, ended=ended, seconds=seconds, command=command, commit=commit)


def typed_command() -> str:
    """What this process was started by, for a shell."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def source_commit(source: Path = _SOURCE) -> str:
    """The commit of the checkout that this program runs from; empty where it is installed, or git can't say."""
    git = shutil.which("git")
    if git is None or not (source / ".git").exists():
        return ""

    def said(*arguments: str) -> str:
        command = [git, "-C", str(source), *arguments]
        run = subprocess.run(command, capture_output=True, check=True, text=True, timeout=_GIT_TIMEOUT_S)  # noqa: S603
        return run.stdout.strip()

    try:
        commit = said("rev-parse", "HEAD")
        return f"{commit} with changes" if said("status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.SubprocessError):
        return ""


def _time(unix_ns: int) -> str:
    return datetime.fromtimestamp(unix_ns // 10**9, UTC).isoformat().replace("+00:00", "Z")
