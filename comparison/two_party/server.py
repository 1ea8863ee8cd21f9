"""The party with the network as a process: `python -m comparison.two_party.server serve CONFIG`.

It serves one client and ends.
"""

import sys
from collections.abc import Sequence
from contextlib import ExitStack

from comparison.networks.quantised import QuantisedNetwork
from comparison.two_party.contents import measure
from comparison.two_party.link import Link
from comparison.two_party.network_form import form_of
from comparison.two_party.party import open_party
from comparison.two_party.public_network import PublicNetwork
from comparison.two_party.service import TwoPartyService
from comparison.two_party.session import Method, ServerHalf, answer_greeting, run_server
from comparison.two_party.settings import ADDRESS, ServerSettings
from comparison.two_party.spool import Spool
from comparison.v1 import two_party_pb2_grpc
from mple.disk.whole_files import write_whole
from mple.node.entry import run_node
from mple.node.logs import log
from mple.node.stop import Stop
from mple.rpc import ErrorCode, MpleError, Role, build_server, error_for

PROGRAM = "mple-two-party-server"
_COMES_WITHIN_S = 120.0
_GRACE_S = 5.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server and return its exit code."""
    return run_node(PROGRAM, "serve", ServerSettings, serve, argv)


def serve(settings: ServerSettings, stop: Stop) -> None:
    """Serve one client's inferences and leave ledgers and outcome in the state folder.

    Raises ValueError: settings, files or what the client sent can't be used; MpleError: no client came, or the link
    broke.
    """
    network = QuantisedNetwork.load(settings.network)
    form = form_of(network)
    with ExitStack() as open_things:
        party = open_things.enter_context(open_party(settings, Role.COMPUTE, PROGRAM))
        built = build_server(
            settings.listen, party.tls, party.ledger, streams=1, idle_s=settings.idle_timeout_s, measure=measure
        )
        open_things.callback(built.stop, _GRACE_S)
        service = TwoPartyService(party.me.consortium)
        two_party_pb2_grpc.add_TwoPartyServiceServicer_to_server(service, built.server)
        built.start()
        write_whole(settings.state / ADDRESS, built.address.encode())
        log("listening", f"listening on {built.address}")
        link = service.accept(_COMES_WITHIN_S)
        open_things.callback(stop.on_set(link.break_off))
        try:
            inferences = answer_greeting(link, settings.method, form)
            run_server(link, _half(settings, link, network, form, party.spool), inferences, party.watch)
        except Exception as fault:
            service.fail(link, _told(fault))
            raise
        party.leave()
    log("done", f"{inferences} inferences by {settings.method}")


def _half(
    settings: ServerSettings, link: Link, network: QuantisedNetwork, form: PublicNetwork, spool: Spool
) -> ServerHalf:
    # Each method has its own libraries, of which the others' processes should not have the memory.
    if settings.method is Method.GAZELLE:
        from comparison.two_party.gazelle import GazelleServer

        return GazelleServer(link, network, form, settings.held_bytes)
    if settings.method is Method.MINIONN:
        from comparison.two_party.minionn import MinionnServer

        return MinionnServer(link, network, form, spool, settings.held_bytes)
    if settings.method.morphed:
        from comparison.two_party.morphed_upload import MorphedServer

        return MorphedServer(link, network, form, settings.method.value, settings.state)
    from comparison.two_party.plain_upload import PlainServer

    return PlainServer(link, network, form)


def _told(fault: Exception) -> MpleError:
    """What the client is told: what it sent wrong, or only that something failed here."""
    if isinstance(fault, ValueError):
        return MpleError(ErrorCode.MESSAGE_MALFORMED, str(fault))
    return error_for(fault)


if __name__ == "__main__":
    sys.exit(main())
