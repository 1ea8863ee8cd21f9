"""How much memory there is, by files as Linux has them: the machine's, or what a container or service may use."""

from pathlib import Path

import pytest

from mple.machine import MemoryShortError, available_bytes, held_bytes, memory_bytes, require_memory

_V1 = "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes"


def _system(root: Path, files: dict[str, str]) -> int | None:
    for name, text in ({"proc/meminfo": "MemTotal:        1000 kB\nMemFree:  1 kB\n"} | files).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return memory_bytes(root)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 1_024_000),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "500000\n"}, 500_000),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, 1_024_000),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": "700000\n"}, 700_000),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "300000\n"}, 300_000),
        ({"proc/self/cgroup": "4:memory:/docker/abc\n1:cpu:/x\n", _V1: "400000\n"}, 400_000),
        ({"proc/self/cgroup": "4:memory:/gone\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "450000\n"}, 450_000),
        ({"proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2**63}\n"}, 1_024_000),
        ({"proc/self/cgroup": "broken\n\n"}, 1_024_000),
    ],
)
def test_the_least_of_all_limits_counts(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    assert _system(tmp_path, files) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 614_400),
        (
            {
                "proc/self/cgroup": "0::/a\n",
                "sys/fs/cgroup/a/memory.max": "500000\n",
                "sys/fs/cgroup/a/memory.current": "400000\n",
                "sys/fs/cgroup/a/memory.stat": "anon 7\ninactive_file 150000\n",
            },
            250_000,
        ),
        (
            {
                "proc/self/cgroup": "0::/a\n",
                "sys/fs/cgroup/a/memory.max": "max\n",
                "sys/fs/cgroup/a/memory.current": "400000\n",
                "sys/fs/cgroup/a/memory.stat": "inactive_file 0\n",
            },
            614_400,
        ),
    ],
)
def test_what_a_limit_leaves_is_free_and_so_are_files_that_can_go(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    _system(tmp_path, {"proc/meminfo": "MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 600 kB\n"} | files)
    assert available_bytes(tmp_path) == expected
    assert available_bytes(tmp_path / "nowhere") is None and held_bytes(tmp_path / "nowhere") == 0


def test_this_machine_has_some() -> None:
    assert 8 * 1024**2 < held_bytes() < (memory_bytes() or 0)
    found = memory_bytes()
    assert found is not None and 64 * 1024**2 < found < 2**50


def test_what_does_not_fit_is_refused_with_both_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mple.machine.memory_bytes", lambda: 3 * 1024**3)
    require_memory(3 * 1024**3, "pictures", "take fewer")
    with pytest.raises(MemoryShortError, match=r"pictures: needs 4\.5 GiB of memory, this machine has 3\.0 GiB"):
        require_memory(9 * 512 * 1024**2, "pictures", "take fewer")
    monkeypatch.setattr("mple.machine.memory_bytes", lambda: None)
    require_memory(2**60, "pictures", "take fewer")
