"""Damage of a node's own files: an error with an exit code of its own, and checksums by which damage is noticed.

A damaged file is its node's affair: the node stops with a sentence that names the file and the way out, the others
wait, and the run goes on once the file is put right. A checksum finds accidents, not forgers: whoever can write the
file can write a checksum, too.
"""

import hashlib
import re
from pathlib import Path

from mple.exit_codes import ExitCode, ExitError

PUT_BACK = "put the file back as it was and start the node again with the same command"
"""The way out where there is no shorter one."""
_SEALED = re.compile(rb'(.*),\n  "checksum": "([0-9a-f]{64})"\n}\n', re.DOTALL)


class DamagedError(ExitError, ValueError):
    """A file that this node has written is damaged, gone, or older than what rests on it; nobody else's fault."""

    def __init__(self, path: Path | str, what: str, fix: str = PUT_BACK) -> None:
        """Say `what` is wrong with the file in words that follow on its path ("is damaged: ..."), and the way out."""
        super().__init__(f"{path} {what}", ExitCode.DAMAGED, fix)


def with_checksum(record: bytes) -> bytes:
    """A JSON object of at least one field with the checksum of its text as a last field."""
    body = record.rstrip().removesuffix(b"}").rstrip()
    return body + b',\n  "checksum": "' + hashlib.sha256(body).hexdigest().encode() + b'"\n}\n'


def without_checksum(content: bytes, path: Path, fix: str = PUT_BACK) -> bytes:
    """The JSON object that `with_checksum` was given, but for white space at its end.

    Raises DamagedError: any of its bytes is another than was written, or there is no checksum.
    """
    found = _SEALED.fullmatch(content)
    if found is None or hashlib.sha256(found[1]).hexdigest().encode() != found[2]:
        raise DamagedError(path, f"is damaged: its {len(content)} bytes are not those that its checksum is of", fix)
    return found[1] + b"}"
