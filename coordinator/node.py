"""The coordinator process: serve one run until it has ended."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

import torch
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from coordinator.layer_store import LayerStore
from coordinator.phases import Phase
from coordinator.run_office import RunOffice
from coordinator.service import CoordinatorService
from coordinator.store import RunStore
from mple.exit_codes import ExitCode
from mple.meter import Ledger
from mple.node import run_node
from mple.node.logs import log, open_log
from mple.plan import CoordinatorSettings
from mple.rpc import ErrorCode, MpleError, Role, TlsFiles, build_server, own_party
from mple.v1 import coordinator_pb2_grpc

_LOGGER = logging.getLogger("mple.coordinator")
_GRACE_S = 10.0


def main(argv: Sequence[str] | None = None) -> int:
    """The command `mple-coordinator`."""
    return run_node("mple-coordinator", "serve", CoordinatorSettings, serve, argv)


def serve(settings: CoordinatorSettings, stop: threading.Event) -> ExitCode:
    """Serve until the run has ended and its parties know.

    Raises:
        ValueError: Configuration, certificates or a busy port.
        MpleError: RUN_FAILED when the run failed.
    """
    torch.set_num_threads(settings.threads)
    settings.state.mkdir(parents=True, exist_ok=True)
    tls = TlsFiles.in_directory(settings.tls)
    me = own_party(tls, Role.COORDINATOR)
    open_log(settings.state, me.name)
    store = RunStore(settings.state / "coordinator.sqlite")
    certificate = x509.load_pem_x509_certificate(tls.certificate.read_bytes())
    store.keep_fact("own_certificate", certificate.public_bytes(Encoding.DER))
    with Ledger(settings.state / "ledger.sqlite", me.label) as ledger:
        office = RunOffice(
            settings, me, store, LayerStore(settings.state / "layers"), tls.key, on_phase=ledger.set_phase
        )
        ledger.set_run(office.run_id)
        built = build_server(settings.listen, tls, ledger, streams=3 * (len(settings.run.sites) + 1))
        coordinator_pb2_grpc.add_CoordinatorServiceServicer_to_server(
            CoordinatorService(office, store, me.consortium), built.server
        )
        built.start()
        log(_LOGGER, logging.INFO, "listening", f"run {office.run_id}: listening on {built.address}")
        try:
            while not (stop.is_set() or (office.ended.is_set() and not settings.stay)):
                office.ended.wait(0.2) if not settings.stay else stop.wait(0.2)
            if office.ended.is_set() and not stop.is_set():
                _let_parties_leave(ledger)
        finally:
            built.stop(grace_s=1.0 if stop.is_set() else _GRACE_S)
            store.close()
    if office.state.phase is Phase.FAILED:
        raise MpleError(ErrorCode.RUN_FAILED, office.state.reason)
    return ExitCode.DONE if office.state.phase is Phase.FINISHED else ExitCode.INTERRUPTED


def _let_parties_leave(ledger: Ledger) -> None:
    """Go on until the books have been quiet for a second: the last event is out, the last reports are in."""
    give_up_at = time.monotonic() + _GRACE_S
    seen, quiet_since = ledger.totals(), time.monotonic()
    while time.monotonic() < give_up_at and time.monotonic() - quiet_since < 1.0:
        time.sleep(0.1)
        if ledger.totals() != seen:
            seen, quiet_since = ledger.totals(), time.monotonic()
