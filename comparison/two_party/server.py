"""The party with the network as a process: `python -m comparison.two_party.server serve CONFIG`.

It serves one client and ends.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack

from comparison.networks.quantised import QuantisedNetwork
from comparison.peak_memory import peak_memory_bytes
from comparison.two_party.contents import measure
from comparison.two_party.link import Link
from comparison.two_party.network_form import form_of
from comparison.two_party.public_network import PublicNetwork
from comparison.two_party.service import TwoPartyService
from comparison.two_party.session import Method, ServerHalf, answer_greeting, run_server
from comparison.two_party.settings import ADDRESS, LEDGER, OUTCOME, ServerSettings
from comparison.two_party.spool import Spool
from comparison.two_party.stopwatch import PartyOutcome, Stopwatch
from comparison.v1 import two_party_pb2_grpc
from mple.disk.json_records import write_record
from mple.disk.locks import claim
from mple.disk.whole_files import write_whole
from mple.exit_codes import ExitCode
from mple.meter import Ledger
from mple.node.entry import run_node
from mple.node.logs import log, open_log
from mple.node.stop import Stop
from mple.rpc import ErrorCode, MpleError, Role, TlsFiles, build_server, error_for, own_party

PROGRAM = "mple-two-party-server"
_LOGGER = logging.getLogger(PROGRAM)
_COMES_WITHIN_S = 120.0
_GRACE_S = 5.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server and return its exit code."""
    return run_node(PROGRAM, "serve", ServerSettings, serve, argv)


def serve(settings: ServerSettings, stop: Stop) -> ExitCode:
    """Serve one client's inferences and leave ledgers and outcome in the state folder.

    Raises:
        ValueError: Settings, files or what the client sent can't be used.
        MpleError: No client came, or the link broke.
    """
    network = QuantisedNetwork.load(settings.network)
    form = form_of(network)
    tls = TlsFiles.in_directory(settings.tls)
    me = own_party(tls, Role.COMPUTE)
    with ExitStack() as open_things:
        open_things.enter_context(claim(settings.state, PROGRAM))
        open_log(settings.state, me.label)
        ledger = open_things.enter_context(Ledger(settings.state / LEDGER, me.label))
        spool = open_things.enter_context(Spool(settings.state / "spool"))
        built = build_server(settings.listen, tls, ledger, streams=1, measure=measure)
        open_things.callback(built.stop, _GRACE_S)
        service = TwoPartyService(me.consortium, settings.idle_timeout_s)
        two_party_pb2_grpc.add_TwoPartyServiceServicer_to_server(service, built.server)
        built.start()
        write_whole(settings.state / ADDRESS, built.address.encode())
        log(_LOGGER, logging.INFO, "listening", f"listening on {built.address}")
        link = service.accept(_COMES_WITHIN_S)
        threading.Thread(target=_end_on, args=(stop, link), daemon=True).start()
        watch = Stopwatch()
        try:
            inferences = answer_greeting(link, settings.method, form)
            run_server(link, _half(settings, link, network, form, spool), inferences, watch)
        except Exception as fault:
            service.fail(link, _told(fault))
            raise
        outcome = PartyOutcome(
            laps=tuple(watch.laps),
            peak_memory_bytes=peak_memory_bytes(),
            spool_bytes=spool.most_bytes,
            logits_NK=(),
        )
    write_record(settings.state / OUTCOME, outcome)
    log(_LOGGER, logging.INFO, "done", f"{inferences} inferences by {settings.method}")
    return ExitCode.DONE


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


def _end_on(stop: Stop, link: Link) -> None:
    stop.wait()
    link.break_off()


if __name__ == "__main__":
    sys.exit(main())
