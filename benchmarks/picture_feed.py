"""The plain pictures over the same lines: each site sends picture files, with labels, to the compute node.

    python -m benchmarks.picture_feed compute CONFIG SITES
    python -m benchmarks.picture_feed site CONFIG [FORMAT SETTING]

What a consortium without privacy would send, by the product's own means: certificates and addresses of the run folder
that the node's configuration lies in, `Feed` over mutual TLS, a CRC and an entry in the ledger for each message, and as
many pictures in a message. Files are PNG, or of another format of `benchmarks.picture_formats` with a setting in JSON.
They are made before the stream is opened, and then a site sends as fast as gRPC takes them: nobody asks for samples.
The compute node says "ready" once it listens; both end when all has arrived.
"""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import google_crc32c
import grpc
import numpy as np

from benchmarks.picture_formats import FORMATS, PNG, PictureFormat, Setting
from mple.data import LabelledImages, open_source
from mple.meter import Ledger
from mple.plan import ComputeSettings, SiteSettings, WireSettings, read_settings
from mple.records.run_folder import COMPUTE, RunFolder
from mple.rpc import ErrorCode, MpleError, Party, Role, TlsFiles, build_server, guarded, open_channel, own_party
from mple.simulate.children import tied
from mple.v1 import common_pb2, compute_pb2, compute_pb2_grpc
from mple.wire.batch import samples_per_message

LEDGER = "pictures.sqlite"
"""In the node's state folder."""
_END_S = 3600.0


def feed(
    folder: RunFolder,
    of: PictureFormat = PNG,
    setting: Setting | None = None,
    *,
    around: Callable[[str, list[str]], list[str]] = lambda node, command: command,
) -> None:
    """Run the processes of a folder's compute node and sites, each perhaps inside another command.

    Raises RuntimeError: a process failed.
    """

    def started(name: str, role: str, *more: str, out: int | None = None) -> subprocess.Popen[bytes]:
        program = [sys.executable, "-m", "benchmarks.picture_feed", role, str(folder.config(name)), *more]
        process = subprocess.Popen(tied(around(name, program)), stdout=out)
        closing.enter_context(process)
        closing.callback(process.kill)
        return process

    with contextlib.ExitStack() as closing:
        compute = started(COMPUTE, "compute", str(len(folder.sites)), out=subprocess.PIPE)
        assert compute.stdout is not None
        if compute.stdout.readline() != b"ready\n":
            raise RuntimeError(f"the receiving process ended with code {compute.wait()}")
        processes = [started(site, "site", of.name, json.dumps(setting or {})) for site in folder.sites]
        codes = [process.wait() for process in (*processes, compute)]
    if any(codes):
        raise RuntimeError(f"processes that send and take in {of.name} files ended with codes {codes}")


class PictureIntake(compute_pb2_grpc.ComputeServiceServicer):
    """Takes pictures in, looks whether they are whole, and forgets them."""

    def __init__(self, consortium: str, sites: int) -> None:
        self.consortium = consortium
        self._due = threading.Semaphore(0)
        self._sites = sites

    @guarded(Role.SITE)
    def Feed(
        self, request_iterator: Iterator[compute_pb2.FeedRequest], _context: grpc.ServicerContext, _peer: Party
    ) -> Iterator[compute_pb2.FeedResponse]:
        """Ask for all there is, once."""
        next(request_iterator)
        yield compute_pb2.FeedResponse(samples=compute_pb2.SampleRequest())
        for request in request_iterator:
            batch = request.batch
            if google_crc32c.value(batch.codes + batch.labels) != batch.crc32c:
                raise MpleError(ErrorCode.CHECKSUM_MISMATCH, "pictures were damaged")
        yield compute_pb2.FeedResponse(done=compute_pb2.FeedDone())
        self._due.release()

    def await_all(self) -> bool:
        """Whether all sites have sent all they have, within some minutes."""
        return all(self._due.acquire(timeout=_END_S) for _ in range(self._sites))


def take_in(config: Path, sites: int) -> None:
    """Be the compute node of so many sites."""
    settings = read_settings(ComputeSettings, config)
    tls = TlsFiles.in_directory(settings.tls)
    settings.state.mkdir(exist_ok=True)
    with Ledger(settings.state / LEDGER, f"compute/{COMPUTE}") as ledger:
        built = build_server(settings.listen, tls, ledger, streams=sites)
        intake = PictureIntake(own_party(tls, Role.COMPUTE).consortium, sites)
        compute_pb2_grpc.add_ComputeServiceServicer_to_server(intake, built.server)
        built.start()
        print("ready", flush=True)
        whole = intake.await_all()
        built.stop(1.0)
    if not whole:
        raise SystemExit("not all pictures came in")


def send(config: Path, of: PictureFormat, setting: Setting) -> None:
    """Be a site."""
    settings = read_settings(SiteSettings, config)
    tls = TlsFiles.in_directory(settings.tls)
    me = own_party(tls, Role.SITE)
    dataset = open_source(settings.data)
    splits = [split for split in (dataset.train, dataset.val, dataset.test) if len(split)]
    messages = [message for split in splits for message in _messages(split, of, setting)]
    settings.state.mkdir(exist_ok=True)
    with Ledger(settings.state / LEDGER, me.label) as ledger:
        remote = Party(me.consortium, Role.COMPUTE, COMPUTE)
        with open_channel(settings.compute, tls, remote, ledger) as channel:
            asked = threading.Event()

            def sent() -> Iterator[compute_pb2.FeedRequest]:
                yield compute_pb2.FeedRequest(hello=compute_pb2.FeedHello())
                asked.wait()
                yield from messages

            last = ""
            for response in compute_pb2_grpc.ComputeServiceStub(channel).Feed(sent()):
                asked.set()
                last = response.WhichOneof("message")
    if last != "done":  # which the compute node says before it ends the call: to leave at once would cancel it there
        raise SystemExit("the compute node ended before it had all pictures")


def _messages(images: LabelledImages, of: PictureFormat, setting: Setting) -> list[compute_pb2.FeedRequest]:
    """As many pictures in a message as the product sends of codes with a byte a value."""
    made, each = [], samples_per_message(WireSettings().message_bytes, images.shape.elements)
    for low in range(0, len(images), each):
        some = images.take(np.arange(low, min(low + each, len(images)), dtype=np.int64))
        files = b"".join(of.files(some.pixels_NCHW, setting))
        labels = some.labels.astype("<u2").tobytes()
        batch = common_pb2.MorphedBatch(
            split=common_pb2.SPLIT_TRAIN,
            samples=len(some),
            codes=files,
            labels=labels,
            crc32c=google_crc32c.value(files + labels),
        )
        made.append(compute_pb2.FeedRequest(batch=batch))
    return made


def main(arguments: Sequence[str]) -> None:
    """Be a node."""
    match arguments:
        case ["compute", config, sites]:
            take_in(Path(config), int(sites))
        case ["site", config]:
            send(Path(config), PNG, {})
        case ["site", config, name, setting]:
            send(Path(config), next(one for one in FORMATS if one.name == name), json.loads(setting))
        case _:
            raise SystemExit(f"{list(arguments)}: see the top of {__file__}")


if __name__ == "__main__":
    main(sys.argv[1:])
