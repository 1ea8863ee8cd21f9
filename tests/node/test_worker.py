"""No exception dies in a thread."""

from __future__ import annotations

import errno
import queue

import pytest

from mple.disk.storage_faults import watched_storage
from mple.node.worker import Worker


def test_a_body_runs_in_a_thread_of_its_own() -> None:
    done: queue.Queue[str] = queue.Queue()
    Worker("worker", lambda: done.put("done"), lambda fault: done.put(str(fault))).join(30)
    assert done.get_nowait() == "done"
    assert done.empty()


@pytest.mark.parametrize("fault", [ValueError("wrong"), OSError(errno.ENOSPC, "full"), AssertionError("impossible")])
def test_whatever_ends_a_body_arrives_and_a_fault_of_the_disk_is_noted(fault: Exception) -> None:
    def fail() -> None:
        raise fault

    arrived: list[Exception] = []
    with watched_storage(lambda: None) as disk:
        Worker("worker", fail, arrived.append).join(30)
    assert arrived == [fault]
    assert disk.fault is (fault if isinstance(fault, OSError) else None)
