"""Whether files have changed since they were read, by what the system says of them."""

from pathlib import Path

Stamp = tuple[tuple[int, int, int] | None, ...]


def stamp_of(*paths: Path) -> Stamp:
    """Changes when one of the files does: time, size and i-node of each, None for one that is missing."""

    def stamp(path: Path) -> tuple[int, int, int] | None:
        try:
            facts = path.stat()
        except OSError:
            return None
        return facts.st_mtime_ns, facts.st_size, facts.st_ino

    return tuple(stamp(path) for path in paths)
