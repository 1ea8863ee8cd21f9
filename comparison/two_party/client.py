"""The party with the pictures as a process: `python -m comparison.two_party.client run CONFIG`."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from comparison.two_party.contents import measure
from comparison.two_party.link import Link
from comparison.two_party.party import open_party
from comparison.two_party.public_network import PublicNetwork
from comparison.two_party.service import dial
from comparison.two_party.session import ClientHalf, Method, greet, run_client
from comparison.two_party.settings import ClientSettings
from comparison.two_party.spool import Spool
from mple.node.entry import run_node
from mple.node.logs import log
from mple.node.stop import Stop
from mple.rpc import Role, open_channel, verify_remote

PROGRAM = "mple-two-party-client"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the client and return its exit code."""
    return run_node(PROGRAM, "run", ClientSettings, infer, argv)


def infer(settings: ClientSettings, stop: Stop) -> None:
    """Have every picture inferred and leave ledgers and outcome in the state folder.

    Raises ValueError: settings, files or what the server sent can't be used; MpleError: the server refused or the link
    broke.
    """
    pictures_NCHW = read_pictures(settings)
    with ExitStack() as open_things:
        party = open_things.enter_context(open_party(settings, Role.SITE, PROGRAM))
        remote = verify_remote(settings.server, party.tls, Role.COMPUTE)
        channel = open_things.enter_context(
            open_channel(settings.server, party.tls, remote, party.ledger, measure=measure)
        )
        link = dial(channel, settings.idle_timeout_s)
        open_things.callback(link.break_off)
        open_things.callback(stop.on_set(link.break_off))
        network = greet(link, settings.method, len(pictures_NCHW))
        if pictures_NCHW.shape[1:] != network.input_shape:
            raise ValueError(f"pictures of {pictures_NCHW.shape[1:]}; the server's network takes {network.input_shape}")
        half = _half(settings, link, network, party.spool)
        party.leave(run_client(link, half, pictures_NCHW, party.watch))
    log("done", f"{len(pictures_NCHW)} inferences by {settings.method}")


def read_pictures(settings: ClientSettings) -> NDArray[np.uint8]:
    """The pictures to infer. Raises ValueError: the file is missing or holds something else."""
    try:
        pictures_NCHW = np.load(settings.pictures, allow_pickle=False)
    except (OSError, ValueError, EOFError) as fault:
        raise ValueError(f"{settings.pictures} can't be read: {fault}") from None
    if pictures_NCHW.ndim != 4 or pictures_NCHW.dtype != np.uint8 or not len(pictures_NCHW):
        shape, kind = pictures_NCHW.shape, pictures_NCHW.dtype
        raise ValueError(f"{settings.pictures} holds {kind} {shape}; needs uint8 (N, C, H, W) with N above 0")
    return np.ascontiguousarray(pictures_NCHW)


def _half(settings: ClientSettings, link: Link, network: PublicNetwork, spool: Spool) -> ClientHalf:
    # Each method has its own libraries, of which the others' processes should not have the memory.
    if settings.method is Method.GAZELLE:
        from comparison.two_party.gazelle import GazelleClient

        return GazelleClient(link, network, spool)
    if settings.method is Method.MINIONN:
        from comparison.two_party.minionn import MinionnClient

        return MinionnClient(link, network)
    if settings.method.morphed:
        from comparison.two_party.morphed_upload import MorphedClient

        order = np.array(settings.channel_order, np.int64)
        return MorphedClient(link, network, settings.method.value, order, settings.state)
    from comparison.two_party.plain_upload import PlainClient

    return PlainClient(link, network)


if __name__ == "__main__":
    sys.exit(main())
