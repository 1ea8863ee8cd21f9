"""Where a node's certificates lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where a node's certificates lie."""

    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def in_directory(cls, directory: Path) -> TlsFiles:
        """`ca.crt`, `node.crt` and `node.key` of a folder."""
        return cls(directory / "ca.crt", directory / "node.crt", directory / "node.key")
