"""The plain pictures over the same lines: each site sends its PNG files, with labels, to the compute node.

    python -m benchmarks.png_feed compute CONFIG SITES
    python -m benchmarks.png_feed site CONFIG

What a consortium without privacy would send, by the product's own means: certificates and addresses of the run folder
that the node's configuration lies in, `Feed` over mutual TLS, a CRC and an entry in the ledger for each message, and as
many pictures in a message. The files are made before the stream is opened, and then a site sends as fast as gRPC takes
them: nobody asks for samples. The compute node says "ready" once it listens; both end when all has arrived.
"""

import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import google_crc32c
import grpc
import numpy as np

from benchmarks.pictures import png_file
from mple.data import LabelledImages, open_source
from mple.meter import Ledger
from mple.plan import ComputeSettings, SiteSettings, read_settings
from mple.records.run_folder import COMPUTE
from mple.rpc import ErrorCode, MpleError, Party, Role, TlsFiles, build_server, guarded, open_channel, own_party
from mple.v1 import common_pb2, compute_pb2, compute_pb2_grpc

LEDGER = "png.sqlite"
"""In the node's state folder."""
PER_MESSAGE = 170
"""As the product does with CIFAR-10: as many pictures as 512 KiB hold at a byte a value."""
_END_S = 600.0


class PngIntake(compute_pb2_grpc.ComputeServiceServicer):
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
        intake = PngIntake(own_party(tls, Role.COMPUTE).consortium, sites)
        compute_pb2_grpc.add_ComputeServiceServicer_to_server(intake, built.server)
        built.start()
        print("ready", flush=True)
        whole = intake.await_all()
        built.stop(1.0)
    if not whole:
        raise SystemExit("not all pictures came in")


def send(config: Path) -> None:
    """Be a site."""
    settings = read_settings(SiteSettings, config)
    tls = TlsFiles.in_directory(settings.tls)
    me = own_party(tls, Role.SITE)
    dataset = open_source(settings.data)
    messages = [message for split in (dataset.train, dataset.test) for message in _messages(split)]
    settings.state.mkdir(exist_ok=True)
    with Ledger(settings.state / LEDGER, me.label) as ledger:
        remote = Party(me.consortium, Role.COMPUTE, COMPUTE)
        with open_channel(settings.compute, tls, remote, ledger) as channel:
            asked = threading.Event()

            def sent() -> Iterator[compute_pb2.FeedRequest]:
                yield compute_pb2.FeedRequest(hello=compute_pb2.FeedHello())
                asked.wait()
                yield from messages

            for response in compute_pb2_grpc.ComputeServiceStub(channel).Feed(sent()):
                asked.set()
                if response.WhichOneof("message") == "done":
                    return
    raise SystemExit("the compute node ended before it had all pictures")


def _messages(images: LabelledImages) -> list[compute_pb2.FeedRequest]:
    made = []
    for low in range(0, len(images), PER_MESSAGE):
        some = images.take(np.arange(low, min(low + PER_MESSAGE, len(images)), dtype=np.int64))
        files = b"".join(map(png_file, some.pixels_NCHW.transpose(0, 2, 3, 1)))
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
            send(Path(config))
        case _:
            raise SystemExit(f"{list(arguments)}: see the top of {__file__}")


if __name__ == "__main__":
    main(sys.argv[1:])
