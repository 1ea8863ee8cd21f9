"""Finds of the fuzzer as files that a test sends again: who called what in which phase, then each message in hex."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.fuzz.shots import Shot

FOLDER = Path(__file__).with_name("corpus")
_LINE = 120


def keep(folder: Path, shot: Shot, sent: tuple[bytes, ...]) -> Path:
    """Write a call down; the file's name says which it is."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(b"".join(sent)).hexdigest()[:8]
    path = folder / f"{shot.target}-{shot.method.rpartition('/')[2]}-{shot.phase}-{digest}.hex"
    lines = [f"{shot.target} {shot.phase} {shot.caller} {shot.method} {'endless' if shot.endless else ''}".rstrip()]
    for message in sent:
        text = message.hex()
        lines += ["message", *(text[low : low + _LINE] for low in range(0, len(text), _LINE))]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
    return path


def read(path: Path) -> Shot:
    """A call of the corpus."""
    first, *rest = path.read_text(encoding="ascii").splitlines()
    target, phase, caller, method, *endless = first.split()
    messages: list[str] = []
    for line in rest:
        if line == "message":
            messages.append("")
        else:
            messages[-1] += line
    return Shot(target, phase, caller, method, tuple(map(bytes.fromhex, messages)), None, bool(endless))


def all_shots() -> list[Path]:
    """The files of the corpus."""
    return sorted(FOLDER.glob("*.hex"))
