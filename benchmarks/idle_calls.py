"""What an idle call costs the process that serves it: memory and threads, with a connection of its own for each.

    python -m benchmarks.idle_calls [--calls 250 500 1000] [--out results/benchmarks]

The calls are of the health service, metered and admitted as all are, which sleeps between two words as a watch of the
coordinator and a feed of the compute node do; mutual TLS, one connection each, opened by another process. Memory is the
serving process's resident set, beyond what it has with one call open; threads are the kernel's count.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import tempfile
import time
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2

from benchmarks.machine import RESULTS, machine
from mple.disk.scarcity import raise_own_limit
from mple.meter import Ledger
from mple.pki import throwaway
from mple.rpc import Party, Role, TlsFiles, build_server

_WATCH = "/grpc.health.v1.Health/Watch"
_SETTLE_S = 1.0
_KIB = 1024


def main() -> None:
    """Measure, print and write `idle_calls.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, nargs="+", default=[250, 500, 1000])
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    raise_own_limit()
    with tempfile.TemporaryDirectory() as name:
        figures = _measured(Path(name), sorted(options.calls))
    options.out.mkdir(parents=True, exist_ok=True)
    command = f"python -m benchmarks.idle_calls --calls {' '.join(map(str, options.calls))}"
    report = {"command": command, "machine": machine(), "by_open_calls": figures}
    (options.out / "idle_calls.json").write_text(json.dumps(report, indent=2) + "\n")


def _measured(folder: Path, counts: list[int]) -> dict[str, dict[str, float]]:
    parties = [Party("idle", Role.COORDINATOR, "coordinator"), Party("idle", Role.SITE, "site")]
    throwaway(folder / "authority", parties, ["127.0.0.1"], [folder / "serving", folder / "calling"])
    most, figures = counts[-1] + 1, {}
    context = multiprocessing.get_context("spawn")
    with Ledger(folder / "ledger.sqlite", "coordinator/coordinator") as ledger:
        tls = TlsFiles.in_directory(folder / "serving")
        built = build_server("127.0.0.1:0", tls, ledger, streams=most, per_caller=most)
        built.start()
        ours, theirs = context.Pipe()
        caller = context.Process(target=_call, args=(built.address, folder / "calling", theirs))
        caller.start()
        with closing(ours):
            before, _ = _opened(ours, 1)
            for count in counts:
                resident, threads = _opened(ours, count + 1)
                each = (resident - before) / count
                figures[str(count)] = {"kib_each": round(each, 1), "resident_mib": round(resident / _KIB, 1)} | {
                    "threads": threads
                }
                print(f"{count:5} idle calls: {resident / _KIB:6.1f} MiB, {each:5.1f} KiB each, {threads} threads")
        caller.join()
        built.stop(0.5)
    return figures


def _opened(caller: Connection, count: int) -> tuple[int, int]:
    """Resident KiB and threads of this process, once the caller has so many calls open."""
    caller.send(count)
    caller.recv()
    time.sleep(_SETTLE_S)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]), int(status["Threads"])


def _call(address: str, folder: Path, orders: Connection) -> None:
    """Be the caller: as many calls as ordered, until nothing more is."""
    raise_own_limit()
    asyncio.run(_called(address, TlsFiles.in_directory(folder), orders))


async def _called(address: str, tls: TlsFiles, orders: Connection) -> None:
    credentials = grpc.ssl_channel_credentials(tls.ca.read_bytes(), tls.key.read_bytes(), tls.certificate.read_bytes())
    request = health_pb2.HealthCheckRequest().SerializeToString()
    own = (("grpc.use_local_subchannel_pool", 1),)
    channels: list[grpc.aio.Channel] = []
    calls: list[grpc.aio.UnaryStreamCall[bytes, bytes]] = []
    while (count := await asyncio.to_thread(_order, orders)) is not None:
        while len(calls) < count:
            channels.append(grpc.aio.secure_channel(address, credentials, own))
            calls.append(channels[-1].unary_stream(_WATCH)(request))
            await calls[-1].read()
        orders.send(count)
    await asyncio.gather(*(channel.close() for channel in channels))


def _order(orders: Connection) -> int | None:
    try:
        return int(orders.recv())
    except EOFError:
        return None


if __name__ == "__main__":
    main()
