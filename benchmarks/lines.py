"""A consortium's network on one machine: a namespace for each node, and a line of limited rate and given length to each
site.

    site's namespace            the middle, one namespace for all                  coordinator's, compute node's
    eth0 ------------ in-0 <- delay line -> out-0 ------ port-0  bridge  port-... ------------ eth0

The kernel limits the rate (`tc`, token bucket) where a line ends: downlink at `in-0`, uplink at `out-0`. There, too, is
the only place where packets are dropped: behind a queue of a tenth of a second, as at a router. `delay_line` makes the
length. Namespaces have no names: each lives as long as the process that holds it, and that one is tied to this one, so
that nothing is left behind whichever way this one ends. Needs Linux, root (or CAP_NET_ADMIN and CAP_SYS_ADMIN), `ip`,
`tc`, `unshare` and `nsenter`.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mple.records.run_folder import COMPUTE, COORDINATOR
from mple.simulate.children import tied

_PROGRAMS = ("ip", "tc", "unshare", "nsenter")
_NETWORK = "10.77.0"
_DELAY_LINE = Path(__file__).with_name("delay_line.py")
_LEAST_BURST_BYTES = 6_000
_BURST_S = 0.001
_QUEUE_S = 0.1
_LEAST_QUEUE_BYTES = 32 * 1024
_READY_S = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """What every site's line can do, each way."""

    mbit_s: float
    latency_ms: float
    """One way; an answer takes twice as long."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Carried:
    """What a site's line has carried, as the queues at its ends have counted it: Ethernet frames."""

    up_bytes: int
    down_bytes: int
    dropped: int
    """Packets for which a queue had no room, both ways."""
    resent: int
    """Segments that TCP at the site has sent again."""


class LineNetwork:
    """The namespaces and lines of a consortium, while `network` holds them."""

    def __init__(self, holders: Mapping[str, int], middle: int, sites: Sequence[str]) -> None:
        """Of the processes that hold them."""
        self._holders, self._middle, self._sites = holders, middle, sites

    @staticmethod
    def address(place: int) -> str:
        """Of the node at a place: coordinator, compute node, then sites."""
        return f"{_NETWORK}.{place + 1}"

    def around(self, name: str, command: Sequence[str]) -> list[str]:
        """A node's command, run in the namespace of the node."""
        return _entered(self._holders[name], command)

    def carried(self) -> dict[str, Carried]:
        """By site, since the network was made."""
        shown = _told(_entered(self._middle, ["tc", "-s", "-json", "qdisc", "show"]))
        queues = {queue["dev"]: queue for queue in json.loads(shown) if queue["kind"] == "tbf"}
        return {
            site: Carried(
                up_bytes=queues[f"out-{place}"]["bytes"],
                down_bytes=queues[f"in-{place}"]["bytes"],
                dropped=queues[f"out-{place}"]["drops"] + queues[f"in-{place}"]["drops"],
                resent=_resent(self._holders[site]),
            )
            for place, site in enumerate(self._sites)
        }


def unavailable() -> str:
    """Why this machine can't have such a network; empty where it can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if missing := [program for program in _PROGRAMS if shutil.which(program) is None]:
        return f"no {', '.join(missing)} here (Debian: apt install iproute2 util-linux)"
    tried = (
        "ip link add one0 type veth peer name two0 && tc qdisc add dev one0 root tbf rate 1mbit burst 6000 limit 30000"
    )
    try:
        subprocess.run(["unshare", "--net", "sh", "-c", tried], check=True, capture_output=True, text=True, timeout=10)
    except subprocess.SubprocessError as fault:
        said = str(getattr(fault, "stderr", None) or fault).strip().splitlines()[-1]
        return f"no namespace with veth and tbf for this user (be root) or by this kernel: {said}"
    return ""


@contextlib.contextmanager
def network(sites: Sequence[str], line: Line) -> Iterator[LineNetwork]:
    """Make the namespaces of coordinator, compute node and sites, and the lines between; all is gone afterwards.

    Raises RuntimeError: the kernel or the rights for it are missing.
    """
    names = (COORDINATOR, COMPUTE, *sites)
    with contextlib.ExitStack() as closing:
        middle, *holders = (_held(closing) for _ in range(1 + len(names)))
        _set_up(middle, holders, line, len(sites))
        _delay(closing, middle, line, len(sites))
        yield LineNetwork(dict(zip(names, holders, strict=True)), middle, sites)


def _set_up(middle: int, holders: Sequence[int], line: Line, sites: int) -> None:
    links = ["link add bridge type bridge", "link set bridge up"]
    queues = []
    others = len(holders) - sites
    for place in range(others):
        links.append(f"link add node-{place} type veth peer name eth0 netns {holders[place]}")
        links += [f"link set node-{place} master bridge", f"link set node-{place} up"]
    for place in range(sites):
        links.append(f"link add in-{place} type veth peer name eth0 netns {holders[others + place]}")
        links.append(f"link add out-{place} type veth peer name port-{place}")
        links.append(f"link set port-{place} master bridge")
        links += [f"link set {end}-{place} up" for end in ("in", "out", "port")]
        queues += [f"qdisc add dev {end}-{place} root {_bucket(line)}" for end in ("in", "out")]
    _told(_entered(middle, ["ip", "-batch", "-"]), "\n".join(links))
    _told(_entered(middle, ["tc", "-batch", "-"]), "\n".join(queues))
    for place, holder in enumerate(holders):
        own = ["link set lo up", f"address add {LineNetwork.address(place)}/24 dev eth0", "link set eth0 up"]
        _told(_entered(holder, ["ip", "-batch", "-"]), "\n".join(own))


def _bucket(line: Line) -> str:
    bytes_s = line.mbit_s * 1e6 / 8
    burst = max(_LEAST_BURST_BYTES, round(bytes_s * _BURST_S))
    queue = max(_LEAST_QUEUE_BYTES, round(bytes_s * _QUEUE_S))
    return f"tbf rate {round(line.mbit_s * 1e6)}bit burst {burst} limit {queue}"


def _delay(closing: contextlib.ExitStack, middle: int, line: Line, sites: int) -> None:
    ends = [f"{end}-{place}" for place in range(sites) for end in ("in", "out")]
    command = [sys.executable, "-I", "-S", str(_DELAY_LINE), f"{line.latency_ms:g}", *ends]
    process = _started(closing, _entered(middle, command), subprocess.PIPE)
    assert process.stdout is not None
    if process.stdout.readline() != b"joined\n":
        raise RuntimeError(f"the delay line ended with code {process.wait()}")


def _held(closing: contextlib.ExitStack) -> int:
    """Process number of one that holds a new namespace."""
    process = _started(closing, ["unshare", "--net", "sleep", "infinity"], None)
    outside, inside = Path("/proc/self/ns/net").readlink(), Path(f"/proc/{process.pid}/ns/net")
    _await(lambda: process.poll() is not None or inside.readlink() != outside)
    if process.poll() is not None:
        raise RuntimeError(f"no namespace: unshare ended with code {process.returncode}")
    return process.pid


def _started(closing: contextlib.ExitStack, command: Sequence[str], out: int | None) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(tied(command), stdin=subprocess.DEVNULL, stdout=out)
    closing.callback(process.wait)
    closing.callback(process.kill)
    if process.stdout is not None:
        closing.callback(process.stdout.close)
    return process


def _await(over: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + _READY_S
    while not over():
        if time.monotonic() > give_up_at:
            raise RuntimeError(f"no namespace within {_READY_S:g} s")
        time.sleep(0.005)


def _entered(holder: int, command: Sequence[str]) -> list[str]:
    return ["nsenter", f"--net=/proc/{holder}/ns/net", "--", *command]


def _resent(holder: int) -> int:
    """Of TCP in a namespace, by the two lines of names and numbers that the kernel shows."""
    lines = Path(f"/proc/{holder}/net/snmp").read_text(encoding="ascii").splitlines()
    names, numbers = (line.split() for line in lines if line.startswith("Tcp:"))
    return int(dict(zip(names, numbers, strict=True))["RetransSegs"])


def _told(command: Sequence[str], said: str = "") -> str:
    environment = dict(os.environ, LC_ALL="C")
    done = subprocess.run(command, input=said, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with code {done.returncode}: {done.stderr.strip()}")
    return done.stdout
