"""Lines between namespaces: what crosses them is counted, they are as slow and as long as asked, and nothing stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.lines import Line, network, unavailable

RECEIVER = """
import socket
listener = socket.create_server(("0.0.0.0", 5000))
print("ready", flush=True)
link, _ = listener.accept()
size = 0
while piece := link.recv(1 << 16):
    size += len(piece)
print(size, flush=True)
"""
SENDER = """
import socket, sys, time
began = time.monotonic()
with socket.create_connection((sys.argv[1], 5000)) as link:
    print(time.monotonic() - began, flush=True)
    link.sendall(bytes(int(sys.argv[2])))
"""
OWNER = """
import time
from benchmarks.lines import Line, network
with network(("north",), Line(mbit_s=10, latency_ms=1)) as lines:
    print([int(lines.around(name, [])[1].split("/")[2]) for name in ("coordinator", "compute", "north")], flush=True)
    time.sleep(60)
"""
SENT = 500_000


@pytest.fixture(autouse=True)
def _namespaces() -> None:
    if reason := unavailable():
        pytest.skip(reason)


def test_a_line_is_as_long_and_as_slow_as_asked_and_counts_what_crosses_it() -> None:
    with network(("north", "east"), Line(mbit_s=20, latency_ms=5)) as lines:
        command = lines.around("compute", [sys.executable, "-c", RECEIVER])
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as receiver:
            assert receiver.stdout is not None
            assert receiver.stdout.readline() == "ready\n"
            began = time.monotonic()
            command = lines.around("north", [sys.executable, "-c", SENDER, lines.address(1), str(SENT)])
            sender = subprocess.run(command, capture_output=True, check=True, text=True)
            assert int(receiver.stdout.readline()) == SENT
            seconds = time.monotonic() - began
        carried = lines.carried()
    # Least times, which no load of the machine makes shorter: a handshake goes there and back, all bytes pass a queue.
    assert float(sender.stdout) >= 2 * 0.005
    assert seconds >= 8 * SENT / 20e6
    # 1448 bytes of payload in an Ethernet frame of 1514.
    assert SENT * 1514 / 1448 <= carried["north"].up_bytes < 1.1 * SENT
    assert 0 < carried["north"].down_bytes < 0.1 * SENT
    assert carried["east"].up_bytes < 10_000


def test_nothing_is_left_when_the_owner_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        holders = json.loads(owner.stdout.readline())
        assert all(
            Path(f"/proc/{holder}/ns/net").readlink() != Path("/proc/self/ns/net").readlink() for holder in holders
        )
        os.kill(owner.pid, signal.SIGKILL)
    give_up_at = time.monotonic() + 30
    while any(_lives(holder) for holder in holders) and time.monotonic() < give_up_at:
        time.sleep(0.02)
    assert not [holder for holder in holders if _lives(holder)]


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_whole_runs_over_lines(tmp_path: Path) -> None:
    few = ["--images", "60", "--only", "png", "png", "50", "5", "--only", "compact", "q6", "50", "5"]
    command = [
        sys.executable,
        "-m",
        "benchmarks.network",
        *few,
        "--out",
        str(tmp_path),
        "--runs",
        str(tmp_path / "runs"),
    ]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    plain, morphed = json.loads((tmp_path / "network.json").read_text(encoding="utf-8"))["rows"]
    assert plain["setup_s"] == 0
    assert morphed["setup_s"] > 0
    for row in (plain, morphed):
        # The line carries what the ledger has, and headers around it; no goodput is above the rate.
        assert row["up_bytes"] + row["down_bytes"] > row["ledger_bytes"]
        assert 0 < row["goodput_share"] < 1
        assert row["dropped"] == 0
