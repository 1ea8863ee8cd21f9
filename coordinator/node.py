"""The coordinator's process: serve one run until it has ended."""

import ssl
from collections.abc import Sequence
from functools import partial

from threadpoolctl import threadpool_limits

from coordinator.layers.escrow import EscrowWorker
from coordinator.layers.layer_releases import LayerReleases
from coordinator.memory.state_file import StateFile
from coordinator.phases import Phase
from coordinator.run import Run
from coordinator.service import CoordinatorService
from mple.node import run_node
from mple.node.logs import log, warn
from mple.node.retry import StoppedError
from mple.node.session import open_node
from mple.node.stop import Stop
from mple.plan import CoordinatorSettings
from mple.rpc import ErrorCode, MpleError, Role, build_server
from mple.rpc.identity import rank_label
from mple.rpc.node_service import add_node_service
from mple.v1 import coordinator_pb2_grpc

_NEWS_GRACE_S = 5.0
_STOP_GRACE_S = 2.0


def main(argv: Sequence[str] | None = None) -> int:
    """The command `mple-coordinator`."""
    return run_node("mple-coordinator", "serve", CoordinatorSettings, serve, argv)


def serve(settings: CoordinatorSettings, stop: Stop) -> None:
    """Serve a run until it has ended and its parties know, or until `stop`.

    Started again on the same state folder, it goes on where it was.

    Raises ValueError: configuration, certificates, state folder or a busy port; MpleError: RUN_FAILED; StoppedError:
    the node was told to end.
    """
    threadpool_limits(settings.threads)
    with open_node(settings, Role.COORDINATOR, "serve", stop) as node, StateFile(settings.state) as file:
        certificate_der = ssl.PEM_cert_to_DER_cert(node.tls.certificate.read_text(encoding="ascii"))
        run = Run(settings, node.me, certificate_der, file, partial(setattr, node.ledger, "phase"))
        node.ledger.run = run.run_id
        releases = LayerReleases(run)
        escrow = EscrowWorker(run, releases, node.tls.key)
        service = CoordinatorService(run, releases)
        # Each process may watch and move a layer, and hold a broken stream that is not noticed yet.
        ranks = settings.training.ranks
        streams = 3 * (len(settings.run.sites) + ranks)
        built = build_server(settings.listen, node.tls, node.ledger, streams=streams, processes={Role.COMPUTE: ranks})
        coordinator_pb2_grpc.add_CoordinatorServiceServicer_to_server(service, built.server)
        add_node_service(built.server, node.me)
        built.start()
        log("listening", f"listening on {built.address}", run_id=run.run_id)
        withdraw = stop.on_set(run.log.wake)
        try:
            escrow.resume()
            _follow(run, escrow, service, settings, stop)
        finally:
            withdraw()
            run.log.close()
            built.stop(_STOP_GRACE_S)
            escrow.stop()


def _follow(
    run: Run, escrow: EscrowWorker, service: CoordinatorService, settings: CoordinatorSettings, stop: Stop
) -> None:
    with run.file.changed:
        run.file.changed.wait_for(lambda: run.state().ended or escrow.fault is not None or stop.is_set())
    if escrow.fault is not None:
        raise escrow.fault
    state = run.state()
    if not state.ended:
        log("stopped", "stopped before the run has ended; start again to go on")
        raise StoppedError
    _let_all_know(run, service, settings, stop)
    if settings.stay:
        log("staying", "the run has ended; serving until stopped")
        stop.wait()
    if state.phase is Phase.FAILED:
        raise MpleError(ErrorCode.RUN_FAILED, state.reason)
    if settings.stay:
        raise StoppedError


def _let_all_know(run: Run, service: CoordinatorService, settings: CoordinatorSettings, stop: Stop) -> None:
    """Wait a while for every party to have the last event, and after a finished run for the ledger totals of each and,
    of the compute node, of every rank. Totals are
    kept and say the same as an event sent; so a coordinator that was killed meanwhile waits for nobody in vain, and a
    party that was killed meanwhile has time to come back."""
    last, state = run.log.last_sequence(), run.state()
    finished = state.phase is Phase.FINISHED
    parties = {f"site/{site}" for site in state.joined}
    compute, ranks = f"compute/{run.settings.run.compute}", run.settings.training.ranks if finished else 1
    parties |= {rank_label(compute, rank) for rank in range(ranks)} if state.compute_joined else set()

    def missing() -> set[str]:
        return parties - (run.totals_from() if finished else service.seen_by(last))

    with run.file.changed:
        grace_s = settings.farewell_s if finished else _NEWS_GRACE_S
        run.file.changed.wait_for(lambda: not missing() or stop.is_set(), grace_s)
    if missing() and not stop.is_set():
        text = f"ending without {', '.join(sorted(missing()))}"
        warn("unheard", f"{text}: not all know that the run has ended")
