"""Host names of one simulation's own, which nodes look up as they look up any: by the system, in a hosts file.

The nodes' processes see another file in the place of `/etc/hosts`, by a mount of their own (Linux's user and mount
namespaces, which need no privilege where the system allows them). Nothing in a node knows of it: a name that is away is
away to the system's resolver and to gRPC's, and is then asked of the machine's name service, which has never heard of
it.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from mple.records.run_folder import COMPUTE, COORDINATOR

NAMES = {COORDINATOR: f"{COORDINATOR}.mple.test", COMPUTE: f"{COMPUTE}.mple.test"}
"""Of the nodes that are dialled. `.test` is nobody's (RFC 6761)."""
_SYSTEM = Path("/etc/hosts")
_OWN_MOUNTS = ["unshare", "--user", "--map-root-user", "--mount", "--", "sh", "-c"]
_ENTER = f'mount --bind "$0" {_SYSTEM} && exec "$@"'


class OwnNames:
    """A hosts file of its own, and the commands that are run with it."""

    def __init__(self, path: Path) -> None:
        """Make the file, with all names known."""
        self._path, self._away = path, set[str]()
        self._path.touch()
        self._write()

    def set_away(self, node: str, away: bool) -> None:
        """Have the name of a node unknown from now on, or known again."""
        (self._away.add if away else self._away.discard)(node)
        self._write()

    def around(self, command: Sequence[str]) -> list[str]:
        """A command that sees these names; process id, exit code and signals are its own."""
        return [*_OWN_MOUNTS, _ENTER, str(self._path), *command]

    def _write(self) -> None:
        system = _SYSTEM.read_text(encoding="utf-8", errors="replace") if _SYSTEM.exists() else ""
        own = [f"127.0.0.1 {name}\n" for node, name in NAMES.items() if node not in self._away]
        # In place: the mounts show this very file, whatever gets its name later.
        self._path.write_text("".join([system, "\n", *own]), encoding="utf-8")


def names_available() -> bool:
    """Whether this system gives a process mounts of its own."""
    try:
        tried = subprocess.run([*_OWN_MOUNTS, _ENTER, _SYSTEM, "true"], capture_output=True, check=False)  # noqa: S603
    except OSError:
        return False  # no such program
    return tried.returncode == 0
