"""Several ranks as processes: forked from one that has torch, so that a test costs little, and joined by gloo."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable, Mapping
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from typing import Any

from compute_node.ranks import LOCAL_RANK, RANK, SIZE, joined_ranks
from mple.node.stop import Stop

_PATIENCE_S = 60.0
Body = Callable[..., Any]
_FORKED = multiprocessing.get_context("forkserver")


def start_server() -> None:
    """Start the process that ranks are forked from; within a fixture of a module, so that it outlives a test."""
    late = ["torch.distributed", "torch.nn.parallel.distributed", "torch._dynamo", "torch.profiler._cupti_monitor"]
    _FORKED.set_forkserver_preload(["compute_node.training.training_run", *late, __name__])
    forkserver.ensure_running()


def run_ranks(
    size: int, body: Body, *args: Any, own: Mapping[int, Mapping[str, Any]] | None = None, **of_all: Any
) -> list[Any]:
    """What a body, of some module's top, returns at each rank, or the exception that it ends with; None where the
    process was killed. `own` are keyword arguments of single ranks, `of_all` those of all."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    links, processes = [], []
    for rank in range(size):
        environment = {RANK: str(rank), SIZE: str(size), LOCAL_RANK: str(rank)}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        ours, theirs = _FORKED.Pipe()
        process = _FORKED.Process(
            target=_run, args=(theirs, environment, body, args, {**of_all, **(own or {}).get(rank, {})})
        )
        process.start()
        theirs.close()
        links.append(ours)
        processes.append(process)
    try:
        return [_received(link) for link in links]
    finally:
        for process in processes:
            process.kill()
            process.join()


def _received(link: Connection) -> Any:
    try:
        if not link.poll(_PATIENCE_S):
            raise TimeoutError("a rank has not come to its end")
        return link.recv()
    except (EOFError, ConnectionResetError):
        return None


def _run(link: Connection, environment: Mapping[str, str], body: Body, args: tuple[Any, ...], own: Any) -> None:
    os.environ.update(environment)
    try:
        with joined_ranks(Stop(), "gloo") as ranks:
            result = body(ranks, *args, **own)
    except Exception as fault:
        traceback.print_exc()
        result = fault
    link.send(result)
