"""The compute node's RPCs: sites feed, sites ask for predictions. Thin: state lives in the intake and the predictor."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import grpc

from compute_node.feeding.intake import Intake
from compute_node.network_file import NetworkFile
from compute_node.predictor import Predictor
from mple.audit import audit_call
from mple.disk.scarcity import scarcity_of
from mple.disk.storage_faults import storage_fault_of
from mple.node.logs import log, warn
from mple.plan import RunPlan
from mple.printable import printable
from mple.rpc import ErrorCode, MpleError, Party, Role, guarded
from mple.rpc.call import Call, Requests
from mple.rpc.file_transfer import chunks_of
from mple.rpc.waking import Wake
from mple.v1 import compute_pb2, compute_pb2_grpc


class ComputeService(compute_pb2_grpc.ComputeServiceServicer):
    """Serves sites once there is a plan; before that every call is refused with WRONG_PHASE."""

    def __init__(self, consortium: str) -> None:
        """Serve parties of this consortium."""
        self.consortium = consortium
        self._plan: RunPlan | None = None
        self._intake: Intake | None = None
        self._received: Callable[[str], int] = lambda _site: 0
        # A network keeps its own plan: after a restart the last run's answers while the next one trains.
        self._predictions: tuple[RunPlan, Predictor] | None = None
        self._network: NetworkFile | None = None

    def open_feed(self, plan: RunPlan, intake: Intake, received: Callable[[str], int] = lambda _site: 0) -> None:
        """From now on sites may feed. `received` counts the samples that came from a party in this run, by its label:
        the site is told with a stream's first request, and so can't be made to forget what it has sent."""
        self._plan, self._intake, self._received = plan, intake, received

    def open_predictions(self, plan: RunPlan, predictor: Predictor) -> None:
        """From now on sites may ask for predictions by this plan's network."""
        self._predictions = (plan, predictor)

    def open_network(self, network: NetworkFile | None) -> None:
        """From now on the sites of the plan that feeds are open for may fetch its trained trunk; None: no more."""
        self._network = network

    @guarded(Role.SITE)
    async def Feed(self, requests: Requests[compute_pb2.FeedRequest], context: Call, peer: Party) -> None:
        """One site's stream: requests and logits go out while batches and scores come in."""
        plan, intake = self._plan, self._intake
        if plan is None or intake is None:
            raise MpleError(ErrorCode.WRONG_PHASE, "the compute node has no layers yet")
        hello = await requests.receive(partial(_hello, plan))
        if hello is None:
            raise MpleError(ErrorCode.MESSAGE_MALFORMED, "a stream opens with a hello")
        woken = context.wake()
        async with context.within(_feeding(intake, peer, hello, woken.set)):
            received = await context.run(self._received, peer.label)
            # A site has nothing to say while it is not asked: from now on it may be silent.
            taking = asyncio.create_task(requests.receive_all(partial(_take, intake, peer.name)))
            taking.add_done_callback(partial(_taken, woken))
            try:
                await _send(intake, peer, context, woken, taking, received)
                await asyncio.wait([taking], timeout=context.idle_s)
                if not taking.done():
                    raise MpleError(ErrorCode.STREAM_TRUNCATED, f"{peer.label} is done and does not end its stream")
                taking.result()
            finally:
                taking.cancel()
                await asyncio.wait([taking])

    @guarded(Role.SITE)
    def DownloadNetwork(
        self, request: compute_pb2.DownloadNetworkRequest, context: grpc.ServicerContext, peer: Party
    ) -> Iterator[compute_pb2.DownloadNetworkResponse]:
        """The bytes of the trained trunk, from an offset on."""
        plan, intake, network = self._plan, self._intake, self._network
        if plan is None or intake is None or network is None:
            raise MpleError(ErrorCode.WRONG_PHASE, "there is no trained network yet")
        _same_plan(plan, request.plan_sha256)
        if peer.name not in {site.name for site in plan.sites}:
            raise MpleError(ErrorCode.UNKNOWN_PARTY, f"the plan has no site {peer.name}")
        if request.sha256 != network.sha256:
            text = f"this node offers network {network.sha256.hex()[:16]}, not {request.sha256[:32].hex()[:16]}"
            raise MpleError(ErrorCode.MESSAGE_MALFORMED, text)
        for chunk in chunks_of(network.path, request.offset, network.total_bytes):
            intake.moved()
            yield compute_pb2.DownloadNetworkResponse(offset=chunk.offset, data=chunk.data, final=chunk.final)
        audit_call(peer.label, "network_fetched", "ok", sha256=network.sha256.hex())

    @guarded(Role.SITE)
    def Predict(
        self, request_iterator: Iterator[compute_pb2.PredictRequest], _context: grpc.ServicerContext, peer: Party
    ) -> Iterator[compute_pb2.PredictResponse]:
        """Class scores for each batch of morphed images."""
        if self._predictions is None:
            raise MpleError(ErrorCode.WRONG_PHASE, "there is no trained network yet")
        plan, predictor = self._predictions
        for request in request_iterator:
            _same_plan(plan, request.plan_sha256)
            answer = predictor.answer(request.batch, peer.name)
            audit_call(peer.label, "prediction", "ok", samples=request.batch.samples)
            yield answer


def _taken(woken: Wake, taking: asyncio.Task[None]) -> None:
    """Nothing more comes from a site; why, its stream looks at, unless that has ended first."""
    if not taking.cancelled():
        taking.exception()
    woken.set()


async def _send(
    intake: Intake, peer: Party, context: Call, woken: Wake, taking: asyncio.Task[None], received: int
) -> None:
    """Send a site what there is for it, until it is done; the first request for samples says that `received` came."""
    told = iter((received,))

    def next_message() -> compute_pb2.FeedResponse | None:
        message = intake.next_message(peer.name)
        if message is not None and message.WhichOneof("message") == "samples":
            message.samples.received_samples = next(told, 0)
        return message

    while True:
        woken.clear()
        ended = taking.done()
        if ended:
            taking.result()
        message = await context.write_from(next_message)
        if message is not None:
            if message.WhichOneof("message") == "done":
                return
        elif ended:
            raise MpleError(ErrorCode.STREAM_TRUNCATED, f"{peer.label} ended its stream too early")
        else:
            await woken.wait()


@contextmanager
def _feeding(intake: Intake, peer: Party, hello: compute_pb2.FeedHello, wake: Callable[[], None]) -> Iterator[None]:
    """The time of a site's stream at the intake."""
    with _own_faults(intake), intake.stream(peer.name, wake), _audited_feed(peer):
        intake.take_hello(peer.name, hello)
        yield


@contextmanager
def _own_faults(intake: Intake) -> Iterator[None]:
    """A fault of this program ends the run as this node's, and not as that of the site whose stream has met it."""
    try:
        yield
    except (MpleError, grpc.RpcError):
        raise
    except Exception as fault:
        if storage_fault_of(fault) is None and scarcity_of(fault) is None:
            intake.fail(MpleError(ErrorCode.INTERNAL, f"{type(fault).__name__} in a site's stream"))
        raise


@contextmanager
def _audited_feed(peer: Party) -> Iterator[None]:
    if audit_call(peer.label, "feed_open", "ok"):
        log("feed_open", f"{peer.label} feeds", site=peer.name)
    result = ErrorCode.STREAM_TRUNCATED.value
    try:
        yield
        result = "ok"
    except MpleError as fault:
        result = fault.code.value
        raise
    finally:
        if audit_call(peer.label, "feed_closed", result) and result == "ok":
            log("feed_closed", f"{peer.label} has ended its stream", site=peer.name)


def _hello(plan: RunPlan, request: compute_pb2.FeedRequest) -> compute_pb2.FeedHello:
    if request.WhichOneof("message") != "hello":
        raise MpleError(ErrorCode.MESSAGE_MALFORMED, "a stream opens with a hello")
    _same_plan(plan, request.hello.plan_sha256)
    return request.hello


def _take(intake: Intake, site: str, request: compute_pb2.FeedRequest) -> None:
    kind = request.WhichOneof("message")
    if kind == "batch":
        intake.take_batch(site, request.batch)
    elif kind == "basis":
        intake.take_basis(site, request.basis)
    elif kind == "score":
        intake.take_score(site, request.score)
    elif kind == "network_received":
        intake.take_received(site, request.network_received)
        _log_received(site, request.network_received)
    else:
        raise MpleError(ErrorCode.MESSAGE_MALFORMED, f"a message of kind {kind} within a stream")


def _log_received(site: str, received: compute_pb2.NetworkReceived) -> None:
    check = printable(received.check, 40)
    audit_call(f"site/{site}", "network_received", "ok", check=check)
    tell = warn if check == "differs" else log
    tell("network_received", f"site {site} has the trained network; its check says: {check}", site=site)


def _same_plan(plan: RunPlan, theirs: bytes) -> None:
    if theirs != plan.sha256():
        raise MpleError(
            ErrorCode.PLAN_HASH_MISMATCH,
            f"the caller follows plan {theirs.hex()[:16] or 'none'}, this node {plan.sha256().hex()[:16]}",
        )
